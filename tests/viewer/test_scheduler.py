"""The painter: the newest wish first, coarse at once, finer while nothing changes, fair among visitors."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from viewer import scheduler as module
from viewer.scheduler import SCALES, ClientState, RenderScheduler

Shown = tuple[str, float]


class Studio:
    """A painter whose pictures are tiles that a test lets through one by one, or all at once."""

    def __init__(self, tiles: dict[float, int] | None = None) -> None:
        self.tiles = tiles or {}
        self.begun: list[Shown] = []
        self.shown: dict[str, list[Shown]] = {}
        self.failed: list[Exception] = []
        self.changed = threading.Condition()
        self.permits = 0
        self.free = False
        self.painter: RenderScheduler[str, Shown] = RenderScheduler(self.paint)

    def paint(self, wish: str, level: float, pause: Callable[[], None]) -> Shown:
        with self.changed:
            self.begun.append((wish, level))
            self.changed.notify_all()
        if wish == "broken":
            raise ValueError("broken")
        for _ in range(self.tiles.get(level, 1)):
            pause()
            with self.changed:
                while not self.free and self.permits == 0:
                    self.changed.wait(5.0)
                self.permits -= 1
        return wish, level

    def visit(self, name: str) -> ClientState[str, Shown]:
        self.shown[name] = []

        def show(picture: Shown, level: float) -> None:
            with self.changed:
                self.shown[name].append(picture)
                self.changed.notify_all()

        return self.painter.add(show, self.failed.append)

    def let(self, tiles: int) -> None:
        with self.changed:
            self.permits += tiles
            self.changed.notify_all()

    def run_freely(self) -> None:
        with self.changed:
            self.free = True
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 5.0), (self.begun, self.shown)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is quick enough to begin finer than the coarsest level, and nothing is paced."""
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 0.0)
    monkeypatch.setattr(module, "MIN_INTERVAL", 0.0)


@pytest.fixture
def studio(slow: None) -> Iterator[Studio]:
    made = Studio({1.0: 4})
    yield made
    made.run_freely()
    made.painter.close()


def test_a_picture_becomes_finer_while_the_camera_rests(studio: Studio) -> None:
    studio.run_freely()
    studio.painter.submit(studio.visit("a"), "here")
    studio.wait(lambda: len(studio.shown["a"]) == len(SCALES))
    assert studio.shown["a"] == [("here", level) for level in SCALES]
    time.sleep(0.05)
    assert len(studio.begun) == len(SCALES), "and is then left alone"


def test_a_finer_picture_is_given_up_between_tiles(studio: Studio) -> None:
    visit = studio.visit("a")
    studio.painter.submit(visit, "here")
    studio.let(3)
    studio.wait(lambda: ("here", 1.0) in studio.begun)
    studio.painter.submit(visit, "there")
    studio.let(1)  # of the four tiles of "here"
    studio.wait(lambda: ("there", SCALES[0]) in studio.begun)
    studio.run_freely()
    studio.wait(lambda: ("there", 1.0) in studio.shown["a"])
    assert ("here", 1.0) not in studio.shown["a"]


def test_a_camera_that_never_rests_is_shown_something(studio: Studio) -> None:
    visit = studio.visit("a")
    for place in range(6):
        studio.painter.submit(visit, f"{place}")
        studio.wait(lambda place=place: len(studio.begun) > place)
        studio.painter.submit(visit, f"{place}, on the way")
        studio.let(1)
        studio.wait(lambda place=place: len(studio.shown["a"]) > place)
    assert {level for _, level in studio.shown["a"]} == {SCALES[0]}


def test_only_the_newest_of_many_wishes_is_painted(studio: Studio) -> None:
    visit = studio.visit("a")
    studio.painter.submit(visit, "first")
    studio.wait(lambda: len(studio.begun) == 1)
    for place in range(20):
        studio.painter.submit(visit, f"{place}")
    studio.run_freely()
    studio.wait(lambda: len(studio.shown["a"]) == 1 + len(SCALES))
    assert {wish for wish, _ in studio.begun} == {"first", "19"}


def test_a_first_picture_does_not_wait_for_another_visitors_finest(studio: Studio) -> None:
    rests, moves = studio.visit("rests"), studio.visit("moves")
    studio.painter.submit(rests, "still")
    studio.let(3)
    studio.wait(lambda: ("still", 1.0) in studio.begun)
    studio.let(1)
    studio.painter.submit(moves, "moving")
    studio.let(2)
    studio.wait(lambda: bool(studio.shown["moves"]))
    assert ("still", 1.0) not in studio.shown["rests"]
    studio.run_freely()
    studio.wait(lambda: ("still", 1.0) in studio.shown["rests"] and ("moving", 1.0) in studio.shown["moves"])
    assert studio.begun.count(("still", 1.0)) == 1, "which went on where it was"


def test_who_rests_is_not_starved_by_who_moves(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    rests, moves = studio.visit("rests"), studio.visit("moves")
    studio.painter.submit(rests, "still")
    place, deadline = 0, time.monotonic() + 20.0
    studio.run_freely()
    while ("still", 1.0) not in studio.shown["rests"]:
        assert time.monotonic() < deadline
        studio.painter.submit(moves, f"{(place := place + 1)}")


def test_a_slow_first_picture_is_given_up_and_the_next_is_coarser(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 10.0)
    monkeypatch.setattr(module, "PREEMPT_AFTER", 0.0)
    studio = Studio({1.0: 4})
    visit = studio.visit("a")
    visit.last_timing = (0, 0.1)  # so that the finest seems quick enough
    studio.painter.submit(visit, "here")
    studio.wait(lambda: studio.begun == [("here", 1.0)])
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 0.0)
    studio.painter.submit(visit, "there")
    studio.let(1)
    studio.wait(lambda: len(studio.begun) == 2)
    assert studio.begun[1] == ("there", SCALES[0])
    studio.run_freely()
    studio.wait(lambda: ("there", 1.0) in studio.shown["a"])
    assert ("here", 1.0) not in studio.shown["a"]
    studio.painter.close()


def test_visitors_take_turns(studio: Studio) -> None:
    visits = {name: studio.visit(name) for name in "abc"}
    for name, visit in visits.items():
        studio.painter.submit(visit, name)
    studio.run_freely()
    studio.wait(lambda: all(len(shown) == len(SCALES) for shown in studio.shown.values()))
    order = [wish for wish, _ in studio.begun]
    for turn in range(len(SCALES)):
        assert sorted(order[3 * turn : 3 * turn + 3]) == ["a", "b", "c"]


def test_who_leaves_is_forgotten(studio: Studio) -> None:
    leaves, stays = studio.visit("leaves"), studio.visit("stays")
    studio.painter.submit(leaves, "gone")
    studio.wait(lambda: len(studio.begun) == 1)
    studio.painter.remove(leaves)
    studio.painter.submit(stays, "here")
    studio.run_freely()
    studio.wait(lambda: len(studio.shown["stays"]) == len(SCALES))
    assert studio.shown["leaves"] == []
    assert studio.painter._clients == [stays]


def test_what_cannot_be_painted_is_told_and_ends_nothing_else(studio: Studio) -> None:
    visit = studio.visit("a")
    studio.run_freely()
    studio.painter.submit(visit, "broken")
    studio.wait(lambda: len(studio.failed) == 1)
    time.sleep(0.05)
    assert len(studio.failed) == 1, "once"
    studio.painter.submit(visit, "here")
    studio.wait(lambda: len(studio.shown["a"]) == len(SCALES))


def test_a_page_that_cannot_be_told_ends_nothing_else(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise OSError("gone")

    studio.run_freely()
    studio.painter.submit(studio.painter.add(refuse, refuse), "here")
    studio.painter.submit(studio.painter.add(refuse, refuse), "broken")
    studio.painter.submit(studio.visit("a"), "there")
    studio.wait(lambda: len(studio.shown["a"]) == len(SCALES))
    assert "a page could not be told" in caplog.text


def test_what_has_changed_is_painted_again(studio: Studio) -> None:
    studio.run_freely()
    studio.painter.submit(studio.visit("a"), "here")
    studio.visit("has asked for nothing yet")
    studio.wait(lambda: len(studio.shown["a"]) == len(SCALES))
    studio.painter.rerender_all()
    studio.wait(lambda: len(studio.shown["a"]) == 2 * len(SCALES))


def test_where_finer_pictures_are_quick_the_first_is_one_of_them(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_FRAME_BUDGET", 10.0)
    visit = studio.visit("a")
    studio.run_freely()
    studio.painter.submit(visit, "here")
    studio.wait(lambda: ("here", 1.0) in studio.shown["a"])
    studio.painter.submit(visit, "there")
    studio.wait(lambda: ("there", 1.0) in studio.shown["a"])
    assert [level for wish, level in studio.shown["a"] if wish == "there"] == [1.0]


def test_pictures_are_paced(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_INTERVAL", 0.05)
    studio = Studio()
    studio.run_freely()
    visit, start = studio.visit("a"), time.monotonic()
    while time.monotonic() - start < 0.5:
        studio.painter.submit(visit, f"{time.monotonic()}")
        time.sleep(0.001)
    studio.painter.close()
    assert 2 <= len(studio.shown["a"]) <= 11
    assert not studio.painter._thread.is_alive()
