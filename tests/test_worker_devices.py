"""GPUs are lent to one process at a time, by the names that the user gave them."""

from __future__ import annotations

import os

import pytest

from harness.worker.process.scheduler import VISIBLE, Devices


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv(VISIBLE, raising=False)
    return monkeypatch


def test_each_process_has_its_own_until_it_gives_it_back(named: pytest.MonkeyPatch) -> None:
    devices = Devices(2)
    first, second = devices.take(1), devices.take(1)
    assert (first, second, devices.take(1)) == (("0",), ("1",), None)
    assert devices.take(0) == (), "a cell on the CPU waits for none"
    assert first is not None
    devices.give_back(first)
    assert devices.take(2) is None
    assert devices.take(1) == ("0",)


@pytest.mark.parametrize("user", ["3,1", " 3 , 1 ", "GPU-a,GPU-b"])
def test_the_users_own_choice_of_gpus_holds(named: pytest.MonkeyPatch, user: str) -> None:
    named.setenv(VISIBLE, user)
    devices = Devices(2)
    taken = devices.take(2)
    assert taken == tuple(name.strip() for name in user.split(","))
    devices.give_back(taken)
    one = devices.take(1)
    assert one is not None
    devices.show(one)
    assert os.environ[VISIBLE] == user.split(",")[0].strip()


@pytest.mark.parametrize(("count", "taken"), [(1, ("0",)), (2, ())])
def test_with_one_gpu_or_for_the_cpu_nothing_is_set(
    named: pytest.MonkeyPatch, count: int, taken: tuple[str, ...]
) -> None:
    Devices(count).show(taken)
    assert VISIBLE not in os.environ
