"""Renderings: newest request first, coarse to fine, fair among clients. Other calls: only the newest that waits."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.viewer.raw_http import wait_for
from viewer import scheduler as module
from viewer.scheduler import SCALES, ClientState, LatestCall, RenderScheduler

Rendered = tuple[str, float]


class TileRenderer:
    """A scheduler and its renderer. An image has tiles that a test releases one by one or all together."""

    def __init__(self, num_tiles: dict[float, int] | None = None) -> None:
        self.num_tiles = num_tiles or {}
        self.started: list[Rendered] = []
        self.shown: dict[str, list[Rendered]] = {}
        self.failed: list[Exception] = []
        self.changed = threading.Condition()
        self.permits = 0
        self.unlimited = False
        self.scheduler: RenderScheduler[str, Rendered] = RenderScheduler(self.render)

    def render(self, request: str, scale: float, pause: Callable[[], None]) -> Rendered:
        with self.changed:
            self.started.append((request, scale))
            self.changed.notify_all()
        if request == "broken":
            raise ValueError("broken")
        for _ in range(self.num_tiles.get(scale, 1)):
            pause()
            with self.changed:
                while not self.unlimited and self.permits == 0:
                    self.changed.wait(5.0)
                self.permits -= 1
        return request, scale

    def add_client(self, name: str) -> ClientState[str, Rendered]:
        self.shown[name] = []

        def show(image: Rendered, scale: float) -> None:
            with self.changed:
                self.shown[name].append(image)
                self.changed.notify_all()

        return self.scheduler.add(show, self.failed.append)

    def release(self, count: int) -> None:
        with self.changed:
            self.permits += count
            self.changed.notify_all()

    def release_all(self) -> None:
        with self.changed:
            self.unlimited = True
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 5.0), (self.started, self.shown)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests start at the coarsest scale, with no minimum interval between images."""
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 0.0)
    monkeypatch.setattr(module, "MIN_INTERVAL", 0.0)


@pytest.fixture
def tiles(slow: None) -> Iterator[TileRenderer]:
    renderer = TileRenderer({1.0: 4})
    yield renderer
    renderer.release_all()
    renderer.scheduler.close()


def test_images_become_finer_while_the_camera_rests(tiles: TileRenderer) -> None:
    tiles.release_all()
    tiles.scheduler.submit(tiles.add_client("a"), "here")
    tiles.wait(lambda: len(tiles.shown["a"]) == len(SCALES))
    assert tiles.shown["a"] == [("here", scale) for scale in SCALES]
    time.sleep(0.05)
    assert len(tiles.started) == len(SCALES), "and then nothing more"


def test_a_finer_image_is_cancelled_between_tiles(tiles: TileRenderer) -> None:
    client = tiles.add_client("a")
    tiles.scheduler.submit(client, "here")
    tiles.release(3)
    tiles.wait(lambda: ("here", 1.0) in tiles.started)
    tiles.scheduler.submit(client, "there")
    tiles.release(1)  # of the four tiles of "here"
    tiles.wait(lambda: ("there", SCALES[0]) in tiles.started)
    tiles.release_all()
    tiles.wait(lambda: ("there", 1.0) in tiles.shown["a"])
    assert ("here", 1.0) not in tiles.shown["a"]


def test_a_camera_that_never_rests_gets_images(tiles: TileRenderer) -> None:
    client = tiles.add_client("a")
    for index in range(6):
        tiles.scheduler.submit(client, f"{index}")
        tiles.wait(lambda index=index: len(tiles.started) > index)
        tiles.scheduler.submit(client, f"{index}, moving")
        tiles.release(1)
        tiles.wait(lambda index=index: len(tiles.shown["a"]) > index)
    assert {scale for _, scale in tiles.shown["a"]} == {SCALES[0]}


def test_only_the_newest_of_many_requests_is_rendered(tiles: TileRenderer) -> None:
    client = tiles.add_client("a")
    tiles.scheduler.submit(client, "first")
    tiles.wait(lambda: len(tiles.started) == 1)
    for index in range(20):
        tiles.scheduler.submit(client, f"{index}")
    tiles.release_all()
    tiles.wait(lambda: len(tiles.shown["a"]) == 1 + len(SCALES))
    assert {request for request, _ in tiles.started} == {"first", "19"}


def test_a_first_image_does_not_wait_for_a_fine_image_of_another_client(tiles: TileRenderer) -> None:
    rests, moves = tiles.add_client("rests"), tiles.add_client("moves")
    tiles.scheduler.submit(rests, "still")
    tiles.release(3)
    tiles.wait(lambda: ("still", 1.0) in tiles.started)
    tiles.release(1)
    tiles.scheduler.submit(moves, "moving")
    tiles.release(2)
    tiles.wait(lambda: bool(tiles.shown["moves"]))
    assert ("still", 1.0) not in tiles.shown["rests"]
    tiles.release_all()
    tiles.wait(lambda: ("still", 1.0) in tiles.shown["rests"] and ("moving", 1.0) in tiles.shown["moves"])
    assert tiles.started.count(("still", 1.0)) == 1, "the fine image was not restarted"


def test_a_resting_client_is_not_starved_by_a_moving_one(tiles: TileRenderer, monkeypatch: pytest.MonkeyPatch) -> None:
    rests, moves = tiles.add_client("rests"), tiles.add_client("moves")
    tiles.scheduler.submit(rests, "still")
    index, deadline = 0, time.monotonic() + 20.0
    tiles.release_all()
    while ("still", 1.0) not in tiles.shown["rests"]:
        assert time.monotonic() < deadline
        tiles.scheduler.submit(moves, f"{(index := index + 1)}")


def test_a_slow_first_image_is_cancelled_and_the_next_is_coarser(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 10.0)
    monkeypatch.setattr(module, "PREEMPT_AFTER", 0.0)
    tiles = TileRenderer({1.0: 4})
    client = tiles.add_client("a")
    client.last_timing = (0, 0.1)  # makes the finest level seem fast enough
    tiles.scheduler.submit(client, "here")
    tiles.wait(lambda: tiles.started == [("here", 1.0)])
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 0.0)
    tiles.scheduler.submit(client, "there")
    tiles.release(1)
    tiles.wait(lambda: len(tiles.started) == 2)
    assert tiles.started[1] == ("there", SCALES[0])
    tiles.release_all()
    tiles.wait(lambda: ("there", 1.0) in tiles.shown["a"])
    assert ("here", 1.0) not in tiles.shown["a"]
    tiles.scheduler.close()


def test_clients_take_turns(tiles: TileRenderer) -> None:
    clients = {name: tiles.add_client(name) for name in "abc"}
    for name, client in clients.items():
        tiles.scheduler.submit(client, name)
    tiles.release_all()
    tiles.wait(lambda: all(len(shown) == len(SCALES) for shown in tiles.shown.values()))
    order = [request for request, _ in tiles.started]
    for turn in range(len(SCALES)):
        assert sorted(order[3 * turn : 3 * turn + 3]) == ["a", "b", "c"]


def test_a_client_that_leaves_is_removed(tiles: TileRenderer) -> None:
    leaves, stays = tiles.add_client("leaves"), tiles.add_client("stays")
    tiles.scheduler.submit(leaves, "gone")
    tiles.wait(lambda: len(tiles.started) == 1)
    tiles.scheduler.remove(leaves)
    tiles.scheduler.submit(stays, "here")
    tiles.release_all()
    tiles.wait(lambda: len(tiles.shown["stays"]) == len(SCALES))
    assert tiles.shown["leaves"] == []
    assert tiles.scheduler._clients == [stays]


def test_a_failed_request_is_reported_once_and_ends_nothing_else(tiles: TileRenderer) -> None:
    client = tiles.add_client("a")
    tiles.release_all()
    tiles.scheduler.submit(client, "broken")
    tiles.wait(lambda: len(tiles.failed) == 1)
    time.sleep(0.05)
    assert len(tiles.failed) == 1, "once"
    tiles.scheduler.submit(client, "here")
    tiles.wait(lambda: len(tiles.shown["a"]) == len(SCALES))


def test_a_page_that_cannot_be_reached_ends_nothing_else(tiles: TileRenderer, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise OSError("gone")

    tiles.release_all()
    tiles.scheduler.submit(tiles.scheduler.add(refuse, refuse), "here")
    tiles.scheduler.submit(tiles.scheduler.add(refuse, refuse), "broken")
    tiles.scheduler.submit(tiles.add_client("a"), "there")
    tiles.wait(lambda: len(tiles.shown["a"]) == len(SCALES))
    assert "sending to a page failed" in caplog.text


def test_requests_are_rendered_again_after_a_change(tiles: TileRenderer) -> None:
    tiles.release_all()
    tiles.scheduler.submit(tiles.add_client("a"), "here")
    tiles.add_client("without a request")
    tiles.wait(lambda: len(tiles.shown["a"]) == len(SCALES))
    tiles.scheduler.rerender_all()
    tiles.wait(lambda: len(tiles.shown["a"]) == 2 * len(SCALES))


def test_the_first_image_is_fine_if_that_is_fast(tiles: TileRenderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 10.0)
    client = tiles.add_client("a")
    tiles.release_all()
    tiles.scheduler.submit(client, "here")
    tiles.wait(lambda: ("here", 1.0) in tiles.shown["a"])
    tiles.scheduler.submit(client, "there")
    tiles.wait(lambda: ("there", 1.0) in tiles.shown["a"])
    assert [scale for request, scale in tiles.shown["a"] if request == "there"] == [1.0]


def test_images_keep_the_minimum_interval(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_INTERVAL", 0.05)
    tiles = TileRenderer()
    tiles.release_all()
    client, start = tiles.add_client("a"), time.monotonic()
    while time.monotonic() - start < 0.5:
        tiles.scheduler.submit(client, f"{time.monotonic()}")
        time.sleep(0.001)
    tiles.scheduler.close()
    assert 2 <= len(tiles.shown["a"]) <= 11
    assert not tiles.scheduler._thread.is_alive()


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
