"""Who is painted for next: pictures for several visitors by turns, coarse at once, finer while nothing changes."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Request = TypeVar("Request")
Image = TypeVar("Image")

SCALES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the full width and height, painted one after the other."""
FIRST_FRAME_BUDGET = 0.1
"""Seconds that the first picture of a new view may take; the finest level that keeps to it is painted first."""
PREEMPT_AFTER = 0.3
"""Seconds after which a first picture counts as slow: others come before its next tile, and a newer wish ends it."""
MIN_INTERVAL = 1 / 12
"""Seconds from one picture of a visitor to the next: a page that is sent more falls behind."""


class RenderCancelled(Exception):
    """What is being painted is no longer wanted."""


@dataclass(eq=False, kw_only=True)
class ClientState(Generic[Request, Image]):
    """One visitor's place in the painter's round."""

    show: Callable[[Image, float], None]
    """Takes a picture and its level; called from the painter's thread."""
    fail: Callable[[Exception], None]
    """Told why the newest wish cannot be painted."""
    request: Request | None = None
    number: int = 0
    """How many wishes there were; what is painted for an older one is out of date."""
    level: int | None = None
    """The next to be painted, as a place in `SCALES`; None before the first, `len(LEVELS)` after the last."""
    started: float = -math.inf
    """When their last picture was begun, in `time.monotonic`."""
    last_timing: tuple[int, float] = (0, math.inf)
    """The level that was painted last, and its seconds."""
    gone: bool = False

    @property
    def awaiting_first(self) -> bool:
        """Whether nothing of the newest wish is to be seen yet."""
        return self.request is not None and self.level is None

    @property
    def unfinished(self) -> bool:
        """Whether its picture can still become finer."""
        return self.request is not None and (self.level is None or self.level < len(SCALES))

    def first_level(self) -> int:
        """The finest level that is quick enough, as far as is known; a level has four times the pixels of the last.

        >>> visit = ClientState(show=print, fail=print, last_timing=(0, 0.02))
        >>> SCALES[visit.first_level()]
        0.25
        """
        last, seconds = self.last_timing
        quick = [level for level in range(len(SCALES)) if seconds * 4.0 ** (level - last) <= FIRST_FRAME_BUDGET]
        return max(quick, default=0)


class RenderScheduler(Generic[Request, Image]):
    """Paints the newest wish of each visitor, one picture at a time.

    The visitor who was served longest ago is next. But a first picture of a new view never waits for a finer one: that
    pauses between two tiles, and is given up as soon as its own visitor wishes for something else. A first picture is
    not given up for a newer wish, unless it turns out slow; the next is then coarser, and the coarsest is always
    finished, so that a camera which never rests is shown something.
    """

    def __init__(self, paint: Callable[[Request, float, Callable[[], None]], Image]) -> None:
        """`paint` gives the picture of a wish at a level, and calls what it is given between tiles."""
        self._render = paint
        self._clients: list[ClientState[Request, Image]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)
        self._thread.start()

    def add(
        self, show: Callable[[Image, float], None], fail: Callable[[Exception], None]
    ) -> ClientState[Request, Image]:
        """A new visitor."""
        visit: ClientState[Request, Image] = ClientState(show=show, fail=fail)
        with self._changed:
            self._clients.append(visit)
        return visit

    def submit(self, visit: ClientState[Request, Image], wish: Request) -> None:
        """Paint this for a visitor, and no longer what was asked for before."""
        with self._changed:
            visit.request, visit.level = wish, None
            visit.number += 1
            self._changed.notify_all()

    def rerender_all(self) -> None:
        """Paint every visitor's wish once more: what it shows has changed."""
        with self._changed:
            for visit in self._clients:
                if visit.request is not None:
                    visit.level = None
                    visit.number += 1
            self._changed.notify_all()

    def remove(self, visit: ClientState[Request, Image]) -> None:
        """The visitor has left; nothing more is painted or kept for them."""
        with self._changed:
            visit.gone, visit.request = True, None
            self._clients = [other for other in self._clients if other is not visit]
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

    def _next(self) -> ClientState[Request, Image] | None:
        return min(self._ready(), key=lambda visit: (visit.started, not visit.awaiting_first), default=None)

    def _next_waiting(self, besides: ClientState[Request, Image]) -> ClientState[Request, Image] | None:
        waiting = (visit for visit in self._ready() if visit.awaiting_first and visit is not besides)
        return min(waiting, key=lambda visit: visit.started, default=None)

    def _ready(self) -> list[ClientState[Request, Image]]:
        now = time.monotonic()
        return [visit for visit in self._clients if visit.unfinished and now - visit.started >= MIN_INTERVAL]

    def _until_paced(self) -> float | None:
        """Seconds until somebody may be sent another picture."""
        now = time.monotonic()
        return min(
            (max(visit.started + MIN_INTERVAL - now, 0.0) for visit in self._clients if visit.unfinished), default=None
        )

    def _serve(self, visit: ClientState[Request, Image], *, within: bool) -> None:
        """Paint the next level for a visitor; `within` another visitor's picture, or by itself."""
        with self._changed:
            wish, number, first = visit.request, visit.number, visit.level is None
            level = visit.first_level() if visit.level is None else visit.level
            visit.started = start = time.monotonic()
        if wish is None:
            return
        others = 0.0

        def pause() -> None:
            nonlocal others
            slow = time.monotonic() - start - others > PREEMPT_AFTER
            may_stop = not first or (slow and level > 0)
            if self._closed or visit.gone or (visit.number != number and may_stop):
                raise RenderCancelled
            if not within and (slow or not first):
                with self._changed:
                    waiting = self._next_waiting(visit)
                if waiting is not None:
                    left = time.monotonic()
                    self._serve(waiting, within=True)
                    others += time.monotonic() - left

        try:
            picture = self._render(wish, SCALES[level], pause)
        except RenderCancelled:
            if first:
                visit.last_timing = level, time.monotonic() - start - others
            return
        except Exception as error:
            self._end(visit, number)
            _tell(visit.fail, error)
            return
        with self._changed:
            visit.last_timing = level, time.monotonic() - start - others
            if visit.number == number:
                visit.level = level + 1
            if visit.gone:
                return
        _tell(visit.show, picture, SCALES[level])

    def _end(self, visit: ClientState[Request, Image], number: int) -> None:
        with self._changed:
            if visit.number == number:
                visit.level = len(SCALES)


def _tell(what: Callable[..., None], *words: object) -> None:
    """Tell a page; one that cannot be told is no reason to stop painting for the others."""
    try:
        what(*words)
    except Exception:
        logging.getLogger(__name__).exception("a page could not be told")
