"""Requests of one client, one at a time in a thread: of those that wait, only the newest runs."""

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

    def __init__(self, do: Callable[Parameters, None]) -> None:
        """`do` runs with the arguments of `ask`, one call at a time."""
        self._do, self._lock = do, threading.Lock()
        self._next: Callable[[], None] | None = None
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a call runs."""
        return self._busy

    def ask(self, *arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        """Run the function after the present call; replaces a call that waits."""
        with self._lock:
            self._next = partial(self._do, *arguments, **options)
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._work, name="latest_call", daemon=True).start()

    def _work(self) -> None:
        while (what := self._take()) is not None:
            _attempt(what)

    def _take(self) -> Callable[[], None] | None:
        with self._lock:
            what, self._next = self._next, None
            self._busy = what is not None
            return what


def _attempt(what: Callable[[], None]) -> None:
    try:
        what()
    except Exception:
        logging.getLogger(__name__).exception("a request of a client failed")
