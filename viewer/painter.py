"""Who is painted for next: pictures for several visitors by turns, coarse at once, finer while nothing changes."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Wish = TypeVar("Wish")
Picture = TypeVar("Picture")

LEVELS = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the full width and height, painted one after the other."""
QUICK = 0.1
"""Seconds that the first picture of a new view may take; the finest level that keeps to it is painted first."""
SLOW = 0.3
"""Seconds after which a first picture counts as slow: others come before its next tile, and a newer wish ends it."""
PACE = 1 / 12
"""Seconds from one picture of a visitor to the next: a page that is sent more falls behind."""


class GivenUp(Exception):
    """What is being painted is no longer wanted."""


@dataclass(eq=False, kw_only=True)
class Visit(Generic[Wish, Picture]):
    """One visitor's place in the painter's round."""

    show: Callable[[Picture, float], None]
    """Takes a picture and its level; called from the painter's thread."""
    fail: Callable[[Exception], None]
    """Told why the newest wish cannot be painted."""
    wish: Wish | None = None
    number: int = 0
    """How many wishes there were; what is painted for an older one is out of date."""
    level: int | None = None
    """The next to be painted, as a place in `LEVELS`; None before the first, `len(LEVELS)` after the last."""
    begun: float = -math.inf
    """When their last picture was begun, in `time.monotonic`."""
    took: tuple[int, float] = (0, math.inf)
    """The level that was painted last, and its seconds."""
    gone: bool = False

    @property
    def waits(self) -> bool:
        """Whether nothing of the newest wish is to be seen yet."""
        return self.wish is not None and self.level is None

    @property
    def unfinished(self) -> bool:
        """Whether its picture can still become finer."""
        return self.wish is not None and (self.level is None or self.level < len(LEVELS))

    def first_level(self) -> int:
        """The finest level that is quick enough, as far as is known; a level has four times the pixels of the last.

        >>> visit = Visit(show=print, fail=print, took=(0, 0.02))
        >>> LEVELS[visit.first_level()]
        0.25
        """
        last, seconds = self.took
        quick = [level for level in range(len(LEVELS)) if seconds * 4.0 ** (level - last) <= QUICK]
        return max(quick, default=0)


class Painter(Generic[Wish, Picture]):
    """Paints the newest wish of each visitor, one picture at a time.

    The visitor who was served longest ago is next. But a first picture of a new view never waits for a finer one: that
    pauses between two tiles, and is given up as soon as its own visitor wishes for something else. A first picture is
    not given up for a newer wish, unless it turns out slow; the next is then coarser, and the coarsest is always
    finished, so that a camera which never rests is shown something.
    """

    def __init__(self, paint: Callable[[Wish, float, Callable[[], None]], Picture]) -> None:
        """`paint` gives the picture of a wish at a level, and calls what it is given between tiles."""
        self._paint = paint
        self._visits: list[Visit[Wish, Picture]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)
        self._thread.start()

    def add(self, show: Callable[[Picture, float], None], fail: Callable[[Exception], None]) -> Visit[Wish, Picture]:
        """A new visitor."""
        visit: Visit[Wish, Picture] = Visit(show=show, fail=fail)
        with self._changed:
            self._visits.append(visit)
        return visit

    def ask(self, visit: Visit[Wish, Picture], wish: Wish) -> None:
        """Paint this for a visitor, and no longer what was asked for before."""
        with self._changed:
            visit.wish, visit.level = wish, None
            visit.number += 1
            self._changed.notify_all()

    def again(self) -> None:
        """Paint every visitor's wish once more: what it shows has changed."""
        with self._changed:
            for visit in self._visits:
                if visit.wish is not None:
                    visit.level = None
                    visit.number += 1
            self._changed.notify_all()

    def remove(self, visit: Visit[Wish, Picture]) -> None:
        """The visitor has left; nothing more is painted or kept for them."""
        with self._changed:
            visit.gone, visit.wish = True, None
            self._visits = [other for other in self._visits if other is not visit]
            self._changed.notify_all()

    def close(self) -> None:
        """Stop painting; gives up what is being painted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                visit = self._next()
                while visit is None and not self._closed:
                    self._changed.wait(self._until_paced())
                    visit = self._next()
                if self._closed or visit is None:
                    return
            self._serve(visit, within=False)

    def _next(self) -> Visit[Wish, Picture] | None:
        return min(self._ready(), key=lambda visit: (visit.begun, not visit.waits), default=None)

    def _next_waiting(self, besides: Visit[Wish, Picture]) -> Visit[Wish, Picture] | None:
        waiting = (visit for visit in self._ready() if visit.waits and visit is not besides)
        return min(waiting, key=lambda visit: visit.begun, default=None)

    def _ready(self) -> list[Visit[Wish, Picture]]:
        now = time.monotonic()
        return [visit for visit in self._visits if visit.unfinished and now - visit.begun >= PACE]

    def _until_paced(self) -> float | None:
        """Seconds until somebody may be sent another picture."""
        now = time.monotonic()
        return min((max(visit.begun + PACE - now, 0.0) for visit in self._visits if visit.unfinished), default=None)

    def _serve(self, visit: Visit[Wish, Picture], *, within: bool) -> None:
        """Paint the next level for a visitor; `within` another visitor's picture, or by itself."""
        with self._changed:
            wish, number, first = visit.wish, visit.number, visit.level is None
            level = visit.first_level() if visit.level is None else visit.level
            visit.begun = start = time.monotonic()
        if wish is None:
            return
        others = 0.0

        def pause() -> None:
            nonlocal others
            slow = time.monotonic() - start - others > SLOW
            may_stop = not first or (slow and level > 0)
            if self._closed or visit.gone or (visit.number != number and may_stop):
                raise GivenUp
            if not within and (slow or not first):
                with self._changed:
                    waiting = self._next_waiting(visit)
                if waiting is not None:
                    left = time.monotonic()
                    self._serve(waiting, within=True)
                    others += time.monotonic() - left

        try:
            picture = self._paint(wish, LEVELS[level], pause)
        except GivenUp:
            if first:
                visit.took = level, time.monotonic() - start - others
            return
        except Exception as error:
            self._end(visit, number)
            _tell(visit.fail, error)
            return
        with self._changed:
            visit.took = level, time.monotonic() - start - others
            if visit.number == number:
                visit.level = level + 1
            if visit.gone:
                return
        _tell(visit.show, picture, LEVELS[level])

    def _end(self, visit: Visit[Wish, Picture], number: int) -> None:
        with self._changed:
            if visit.number == number:
                visit.level = len(LEVELS)


def _tell(what: Callable[..., None], *words: object) -> None:
    """Tell a page; one that cannot be told is no reason to stop painting for the others."""
    try:
        what(*words)
    except Exception:
        logging.getLogger(__name__).exception("a page could not be told")
