"""What visitors ask for, each kind in a thread of its own: of what waits only the newest, however often they ask."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, ParamSpec

Words = ParamSpec("Words")


class Errand(Generic[Words]):
    """One kind of thing that one visitor asks for.

    viser calls back from a few threads that all visitors share: whoever asked faster than things can be done would
    keep these from the others, and what waits for them would pile up.
    """

    def __init__(self, do: Callable[Words, None]) -> None:
        """`do` is called with what `ask` is given, once at a time."""
        self._do, self._lock = do, threading.Lock()
        self._next: Callable[[], None] | None = None
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether it is being done."""
        return self._busy

    def ask(self, *words: Words.args, **options: Words.kwargs) -> None:
        """Have it done as soon as what is being done is finished, in place of what was asked for meanwhile."""
        with self._lock:
            self._next = partial(self._do, *words, **options)
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._work, name="errand", daemon=True).start()

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
        logging.getLogger(__name__).exception("a visitor's errand")
