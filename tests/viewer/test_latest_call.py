"""What a visitor asks for: done once at a time, the newest last, and nothing piles up."""

import logging
import threading

import pytest

from tests.viewer.visitors import wait_for
from viewer.latest_call import LatestCall


class Work:
    """Notes what it is asked to do, and waits to be let go on."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.threads: set[int] = set()
        self.free = threading.Semaphore(0)

    def do(self, number: int) -> None:
        self.done.append(number)
        self.threads.add(threading.active_count())
        self.free.acquire()
        if number < 0:
            raise ValueError("it broke")


def test_of_what_waits_only_the_newest_is_done() -> None:
    work = Work()
    call, before = LatestCall(work.do), threading.active_count()
    call.ask(1)
    wait_for(lambda: work.done == [1])
    for number in range(2, 1000):
        call.ask(number)
    assert call.busy
    work.free.release(3)
    wait_for(lambda: not call.busy)
    call.ask(1000)
    wait_for(lambda: not call.busy)
    assert work.done == [1, 999, 1000]
    assert max(work.threads) <= before + 1


def test_one_that_breaks_is_told_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.free.release(10)
    call = LatestCall(work.do)
    with caplog.at_level(logging.ERROR):
        call.ask(-1)
        wait_for(lambda: not call.busy)
        call.ask(1)
        wait_for(lambda: work.done == [-1, 1])
    assert "it broke" in caplog.text


def test_different_errands_do_not_wait_for_each_other() -> None:
    first, second = Work(), Work()
    LatestCall(first.do).ask(1)
    LatestCall(second.do).ask(2)
    wait_for(lambda: (first.done, second.done) == ([1], [2]))
    first.free.release()
    second.free.release()
