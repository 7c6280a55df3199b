"""Calls of one client: one at a time, only the newest of those that wait, and nothing piles up."""

import logging
import threading

import pytest

from tests.viewer.raw_http import wait_for
from viewer.latest_call import LatestCall


class Work:
    """Records its calls, and blocks each until it is released."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.threads: set[int] = set()
        self.released = threading.Semaphore(0)

    def run(self, number: int) -> None:
        self.done.append(number)
        self.threads.add(threading.active_count())
        self.released.acquire()
        if number < 0:
            raise ValueError("broken")


def test_only_the_newest_waiting_call_runs() -> None:
    work = Work()
    call, before = LatestCall(work.run), threading.active_count()
    call.submit(1)
    wait_for(lambda: work.done == [1])
    for number in range(2, 1000):
        call.submit(number)
    assert call.busy
    work.released.release(3)
    wait_for(lambda: not call.busy)
    call.submit(1000)
    wait_for(lambda: not call.busy)
    assert work.done == [1, 999, 1000]
    assert max(work.threads) <= before + 1


def test_a_failed_call_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.released.release(10)
    call = LatestCall(work.run)
    with caplog.at_level(logging.ERROR):
        call.submit(-1)
        wait_for(lambda: not call.busy)
        call.submit(1)
        wait_for(lambda: work.done == [-1, 1])
    assert "broken" in caplog.text


def test_different_functions_do_not_wait_for_each_other() -> None:
    first, second = Work(), Work()
    LatestCall(first.run).submit(1)
    LatestCall(second.run).submit(2)
    wait_for(lambda: (first.done, second.done) == ([1], [2]))
    first.released.release()
    second.released.release()
