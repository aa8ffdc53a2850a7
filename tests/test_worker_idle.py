"""Idle time: what sleeps is idle, what works or waits for a processor is not."""

from __future__ import annotations

import os
import threading
import time

import pytest

from harness.worker.trainer import phases
from harness.worker.trainer.phases import IdleTime


def test_a_step_that_sleeps_was_idle() -> None:
    seen = IdleTime()
    seen.begin()
    time.sleep(0.2)
    seen.end()
    # It may sleep longer on a busy machine, and what it then waits for a processor is no idleness.
    assert seen.idle[0] > 0.15


def test_a_step_that_works_was_not_idle_though_others_take_its_processor() -> None:
    child = os.fork()
    if child == 0:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            pass
        os._exit(0)
    seen = IdleTime()
    began = time.perf_counter()
    seen.begin()
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        pass
    seen.end()
    took = time.perf_counter() - began
    os.waitpid(child, 0)
    # Against the time that it took, which is longer the busier the machine.
    assert seen.idle[0] < 0.4 * took
    assert 0.25 < seen.running[0] <= took + 0.05


def test_a_thread_that_waits_for_another_that_works_is_not_idle() -> None:
    worked, looked = threading.Event(), threading.Event()

    def work() -> None:
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
        worked.set()
        # A thread that has ended is counted no more.
        looked.wait()

    other = threading.Thread(target=work)
    other.start()
    seen = IdleTime()
    seen.begin()
    began = time.perf_counter()
    worked.wait()
    took = time.perf_counter() - began
    seen.end()
    looked.set()
    other.join()
    assert seen.idle[0] < max(0.4 * took, 0.05)


def test_where_the_system_does_not_count_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(phases, "TASKS", tmp_path / "none")
    seen = IdleTime()
    seen.begin()
    seen.end()
    assert seen.metrics() == {"idle_seconds": [None], "running_seconds": [None]}


def test_a_step_that_was_not_seen_to_begin_is_not_known() -> None:
    seen = IdleTime()
    seen.end()
    assert seen.idle == [None]
