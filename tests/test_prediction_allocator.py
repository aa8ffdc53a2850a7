"""The rules of CUDA's caching allocator, each by what it is for."""

from __future__ import annotations

import random

import pytest

from harness.performance.prediction.allocator import CachingAllocator, rounded, segment_size

MIB = 1 << 20


@pytest.mark.parametrize(("size", "occupied"), [(0, 0), (1, 512), (512, 512), (513, 1024), (0.5, 512)])
def test_a_request_is_rounded_up_to_512_bytes(size: float, occupied: int) -> None:
    assert rounded(size) == occupied


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB),
        (100 * MIB + 512, 102 * MIB),
    ],
)
def test_a_segment_is_as_large_as_torch_asks_the_driver_for(size: int, segment: int) -> None:
    assert segment_size(size) == segment


def test_small_requests_share_a_segment() -> None:
    one = CachingAllocator()
    for _ in range(4096):
        one.allocate(512)
    assert (one.allocated, one.reserved) == (2 * MIB, 2 * MIB)
    one.allocate(1)
    assert one.reserved == 4 * MIB


def test_what_was_freed_is_given_again_and_stays_reserved() -> None:
    one = CachingAllocator()
    address = one.allocate(30 * MIB)
    one.free(address, 30 * MIB)
    assert (one.allocated, one.reserved) == (0, 30 * MIB)
    assert one.allocate(30 * MIB) == address
    assert one.reserved == 30 * MIB


def test_neighbours_that_are_free_become_one() -> None:
    one = CachingAllocator()
    addresses = [one.allocate(5 * MIB) for _ in range(4)]
    assert one.reserved == 20 * MIB
    for address in (addresses[0], addresses[2], addresses[1]):
        one.free(address, 5 * MIB)
    one.allocate(15 * MIB)
    assert one.reserved == 20 * MIB


def test_free_blocks_apart_do_not_serve_a_larger_request() -> None:
    """Fragmentation: 10 MiB are free and in two pieces."""
    one = CachingAllocator()
    addresses = [one.allocate(5 * MIB) for _ in range(4)]
    one.free(addresses[0], 5 * MIB)
    one.free(addresses[2], 5 * MIB)
    one.allocate(9 * MIB)
    assert one.reserved == 40 * MIB


def test_the_smallest_block_that_fits_is_taken() -> None:
    one = CachingAllocator()
    large, small = one.allocate(40 * MIB), one.allocate(12 * MIB)
    one.free(large, 40 * MIB)
    one.free(small, 12 * MIB)
    assert one.allocate(11.5 * MIB) == small


def test_a_rest_of_at_most_one_mib_is_not_split_off_and_counts_as_allocated() -> None:
    one = CachingAllocator()
    one.free(one.allocate(12 * MIB), 12 * MIB)
    one.allocate(11 * MIB)
    assert one.allocated == 12 * MIB
    one.allocate(MIB)
    assert one.reserved == 14 * MIB, "the rest of the large pool serves no small request"


def test_everything_that_is_freed_is_one_block_a_segment_again() -> None:
    """Whatever the order: nothing is lost, nothing is counted twice."""
    chance = random.Random(5)
    one = CachingAllocator()
    live: list[tuple[int, int]] = []
    for _ in range(3000):
        if live and chance.random() < 0.5:
            one.free(*live.pop(chance.randrange(len(live))))
        else:
            size = chance.choice([100, 5000, 700_000, 3 * MIB, 14 * MIB])
            live.append((one.allocate(size), size))
        assert one.allocated <= one.reserved
    for address, size in live:
        one.free(address, size)
    assert one.allocated == 0
    assert sum(size for pool in one._pools.values() for size, _ in pool) == one.reserved
    before = one.reserved
    assert one.allocate(14 * MIB) >= 0
    assert one.reserved == before
