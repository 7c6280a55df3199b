"""Calls of one client, run one at a time in a thread. Of the calls that wait, only the newest runs."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, ParamSpec

Parameters = ParamSpec("Parameters")


class LatestCall(Generic[Parameters]):
    """A function that one client may request at any rate.

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


def _run(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        logging.getLogger(__name__).exception("a client's call failed")
