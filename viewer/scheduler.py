"""When requested work runs: renderings round-robin over clients, coarse to fine; other calls only if still wanted."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, ParamSpec, TypeVar

Request = TypeVar("Request")
Image = TypeVar("Image")
Parameters = ParamSpec("Parameters")

SCALES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Fractions of the full width and height, rendered in this order."""
FIRST_FRAME_BUDGET = 0.1
"""Seconds for the first image of a new request; the finest level expected to meet it is rendered first."""
PREEMPT_AFTER = 0.3
"""Seconds after which a first image counts as slow: first images of others preempt it, a newer request cancels it."""
MIN_INTERVAL = 1 / 12
"""Minimum seconds between two images of one client; a page that gets more lags behind."""


class RenderCancelled(Exception):
    """The current rendering is no longer needed."""


@dataclass(eq=False, kw_only=True)
class ClientState(Generic[Request, Image]):
    """Scheduling state of one client."""

    show: Callable[[Image, float], None]
    """Receives an image and its scale, in the scheduler's thread."""
    fail: Callable[[Exception], None]
    """Receives the error if the newest request cannot be rendered."""
    request: Request | None = None
    number: int = 0
    """Number of requests so far; an image of an earlier request is outdated."""
    level: int | None = None
    """Index in `SCALES` of the next image; None before the first one, `len(SCALES)` after the last."""
    started: float = -math.inf
    """Start time of the last rendering, in `time.monotonic`."""
    last_timing: tuple[int, float] = (0, math.inf)
    """Level of the last rendering, and its seconds."""
    gone: bool = False

    @property
    def awaiting_first(self) -> bool:
        """Whether the newest request has no image yet."""
        return self.request is not None and self.level is None

    @property
    def unfinished(self) -> bool:
        """Whether a finer image of the newest request remains to be rendered."""
        return self.request is not None and (self.level is None or self.level < len(SCALES))

    def first_level(self) -> int:
        """Return the finest level expected to meet `FIRST_FRAME_BUDGET`; each level has four times the pixels.

        >>> client = ClientState(show=print, fail=print, last_timing=(0, 0.02))
        >>> SCALES[client.first_level()]
        0.25
        """
        last, seconds = self.last_timing
        fast = [level for level in range(len(SCALES)) if seconds * 4.0 ** (level - last) <= FIRST_FRAME_BUDGET]
        return max(fast, default=0)


class RenderScheduler(Generic[Request, Image]):
    """Renders the newest request of each client, one image at a time.

    The client that was served longest ago is next. The first image of a new request never waits for a finer image:
    finer renderings pause between two tiles, and are cancelled when their own client submits another request. A newer
    request does not cancel a first image unless that turns out slow; then the next first image is coarser. The coarsest
    level is always finished, so that a camera that never rests still gets images.
    """

    def __init__(self, render: Callable[[Request, float, Callable[[], None]], Image]) -> None:
        """`render` returns the image of a request at a scale, and calls its third argument between tiles."""
        self._render = render
        self._clients: list[ClientState[Request, Image]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    def add(
        self, show: Callable[[Image, float], None], fail: Callable[[Exception], None]
    ) -> ClientState[Request, Image]:
        """Add a client."""
        client: ClientState[Request, Image] = ClientState(show=show, fail=fail)
        with self._changed:
            self._clients.append(client)
        return client

    def submit(self, client: ClientState[Request, Image], request: Request) -> None:
        """Render a request of a client, in place of its earlier one."""
        with self._changed:
            client.request, client.level = request, None
            client.number += 1
            self._changed.notify_all()

    def rerender_all(self) -> None:
        """Render every client's request again, because the blocks changed."""
        with self._changed:
            for client in self._clients:
                if client.request is not None:
                    client.level = None
                    client.number += 1
            self._changed.notify_all()

    def remove(self, client: ClientState[Request, Image]) -> None:
        """Remove a client that left, and cancel its rendering."""
        with self._changed:
            client.gone, client.request = True, None
            self._clients = [other for other in self._clients if other is not client]
            self._changed.notify_all()

    def close(self) -> None:
        """Cancel the current rendering and stop the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                client = self._next()
                while client is None and not self._closed:
                    self._changed.wait(self._seconds_until_ready())
                    client = self._next()
                if self._closed or client is None:
                    return
            self._serve(client, nested=False)

    def _next(self) -> ClientState[Request, Image] | None:
        return min(self._ready(), key=lambda client: (client.started, not client.awaiting_first), default=None)

    def _next_waiting(self, current: ClientState[Request, Image]) -> ClientState[Request, Image] | None:
        waiting = (client for client in self._ready() if client.awaiting_first and client is not current)
        return min(waiting, key=lambda client: client.started, default=None)

    def _ready(self) -> list[ClientState[Request, Image]]:
        now = time.monotonic()
        return [client for client in self._clients if client.unfinished and now - client.started >= MIN_INTERVAL]

    def _seconds_until_ready(self) -> float | None:
        """Seconds until `MIN_INTERVAL` allows another image for some client."""
        now = time.monotonic()
        return min(
            (max(client.started + MIN_INTERVAL - now, 0.0) for client in self._clients if client.unfinished),
            default=None,
        )

    def _serve(self, client: ClientState[Request, Image], *, nested: bool) -> None:
        """Render the next level for a client; `nested` if inside another client's rendering."""
        with self._changed:
            request, number, first = client.request, client.number, client.level is None
            level = client.first_level() if client.level is None else client.level
            client.started = start = time.monotonic()
        if request is None:
            return
        nested_seconds = 0.0

        def pause() -> None:
            nonlocal nested_seconds
            slow = time.monotonic() - start - nested_seconds > PREEMPT_AFTER
            may_cancel = not first or (slow and level > 0)
            if self._closed or client.gone or (client.number != number and may_cancel):
                raise RenderCancelled
            if not nested and (slow or not first):
                with self._changed:
                    waiting = self._next_waiting(client)
                if waiting is not None:
                    paused = time.monotonic()
                    self._serve(waiting, nested=True)
                    nested_seconds += time.monotonic() - paused

        try:
            image = self._render(request, SCALES[level], pause)
        except RenderCancelled:
            if first:
                client.last_timing = level, time.monotonic() - start - nested_seconds
            return
        except Exception as error:
            self._end(client, number)
            _notify(client.fail, error)
            return
        with self._changed:
            client.last_timing = level, time.monotonic() - start - nested_seconds
            if client.number == number:
                client.level = level + 1
            if client.gone:
                return
        _notify(client.show, image, SCALES[level])

    def _end(self, client: ClientState[Request, Image], number: int) -> None:
        with self._changed:
            if client.number == number:
                client.level = len(SCALES)


class LatestCall(Generic[Parameters]):
    """A function that one client may request at any rate: of the calls that wait, only the newest runs.

    viser runs callbacks in a few threads that all clients share. A client that calls faster than the function runs
    would block these threads for the others, and its calls would pile up.
    """

    def __init__(self, function: Callable[Parameters, None]) -> None:
        """`function` runs with the arguments of `submit`, one call at a time."""
        self._function, self._lock = function, threading.Lock()
        self._next: Callable[[], None] | None = None
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a call is running."""
        return self._busy

    def submit(self, *arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        """Run the function after the current call. Replaces a call that waits."""
        with self._lock:
            self._next = partial(self._function, *arguments, **options)
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._work, name="latest_call", daemon=True).start()

    def _work(self) -> None:
        while (call := self._take()) is not None:
            _run(call)

    def _take(self) -> Callable[[], None] | None:
        with self._lock:
            call, self._next = self._next, None
            self._busy = call is not None
            return call


def _notify(callback: Callable[..., None], *arguments: object) -> None:
    """Call back to a page. A failing page must not stop the rendering for the others."""
    try:
        callback(*arguments)
    except Exception:
        logging.getLogger(__name__).exception("sending to a page failed")


def _run(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        logging.getLogger(__name__).exception("a client's call failed")
