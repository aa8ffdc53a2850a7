"""CUDA's caching allocator as torch publishes it, without CUDA: which segments it would request from the driver.

Source of the rules: torch's c10/cuda/CUDACachingAllocator (`kMinBlockSize`, `kSmallSize`, `kSmallBuffer`,
`kLargeBuffer`, `kMinLargeAlloc`, `kRoundLarge`, `get_allocation_size`, `should_split`, `get_free_block`,
`free_block`), with its default settings: no expandable segments, no limit on splitting, nothing given back.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

ROUNDING = 512
SMALL_SIZE = 1 << 20
"""Up to here a request is served from the small pool."""
SMALL_SEGMENT = 2 << 20
LARGE_SEGMENT = 20 << 20
LEAST_OWN_SEGMENT = 10 << 20
"""From here on a request gets a segment of its own size."""
SEGMENT_ROUNDING = 2 << 20


def rounded(size: float) -> int:
    """Bytes that a request of `size` bytes occupies."""
    return max(ROUNDING, -(-int(size) // ROUNDING) * ROUNDING) if size > 0 else 0


def segment_size(size: int) -> int:
    """Bytes that the driver has to give when no free block can serve `size` bytes."""
    if size <= SMALL_SIZE:
        return SMALL_SEGMENT
    if size < LEAST_OWN_SEGMENT:
        return LARGE_SEGMENT
    return -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING


@dataclass(slots=True)
class _Block:
    address: int
    size: int
    free: bool
    before: _Block | None = None
    """The neighbour in the same segment."""
    after: _Block | None = None


class CachingAllocator:
    """Serves requests and counts what is allocated and reserved."""

    def __init__(self) -> None:
        self.allocated = 0
        self.reserved = 0
        self.peak_allocated = 0
        self.peak_reserved = 0
        self._pools: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        """Free blocks by size and address: of the small pool under True."""
        self._blocks: dict[int, _Block] = {}
        """All blocks by their address."""
        self._next_segment = 0

    def allocate(self, size: float) -> int:
        """The address of a block for so many bytes."""
        needed = rounded(size)
        small = needed <= SMALL_SIZE
        block = self._best_fit(needed, small) or self._new_segment(needed)
        remaining = block.size - needed
        if remaining >= ROUNDING if small else remaining > SMALL_SIZE:
            self._split(block, needed, small)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block.address

    def free(self, address: int, size: float) -> None:
        """Give back what `allocate` gave for `size` bytes; it stays reserved."""
        small = rounded(size) <= SMALL_SIZE
        block = self._blocks[address]
        self.allocated -= block.size
        block.free = True
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._forget(neighbour, small)
                block = self._merged(neighbour, block)
        bisect.insort(self._pools[small], (block.size, block.address))

    def _best_fit(self, needed: int, small: bool) -> _Block | None:
        pool = self._pools[small]
        place = bisect.bisect_left(pool, (needed, -1))
        if place == len(pool):
            return None
        return self._blocks[pool.pop(place)[1]]

    def _new_segment(self, needed: int) -> _Block:
        size = segment_size(needed)
        block = _Block(address=self._next_segment, size=size, free=False)
        # Segments never touch: blocks of different ones are not merged.
        self._next_segment += size + SEGMENT_ROUNDING
        self._blocks[block.address] = block
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return block

    def _split(self, block: _Block, needed: int, small: bool) -> None:
        remainder = _Block(
            address=block.address + needed, size=block.size - needed, free=True, before=block, after=block.after
        )
        if block.after is not None:
            block.after.before = remainder
        block.after, block.size = remainder, needed
        self._blocks[remainder.address] = remainder
        bisect.insort(self._pools[small], (remainder.size, remainder.address))

    def _forget(self, block: _Block, small: bool) -> None:
        pool = self._pools[small]
        del pool[bisect.bisect_left(pool, (block.size, block.address))]

    def _merged(self, block: _Block, other: _Block) -> _Block:
        first, second = (block, other) if block.address < other.address else (other, block)
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        first.free = True
        del self._blocks[second.address]
        return first
