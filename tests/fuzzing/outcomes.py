"""Outcome of a reader for a file: it returns a valid object or raises a one-line error; anything else is a failure."""

import resource
import signal
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blocknerf.errors import BlockNerfError
from tests.fuzzing.inputs import INPUTS
from tests.fuzzing.logs import LOGS
from tests.fuzzing.run_files import RUN_FILES
from tests.fuzzing.targets import Target
from tests.fuzzing.tensors import TENSORS, resealed

READERS = {
    **{make.__name__: make for make in (*INPUTS, *LOGS, *RUN_FILES, *TENSORS)},
    **{f"{make.__name__}_resealed": resealed(make) for make in TENSORS},
}
"""Functions that create a target with a valid file in a folder, by name."""

Outcome = Literal["accepted", "rejected", "failed"]
MAX_MESSAGE_LENGTH = 1_000
"""Maximum characters of an error message, without the path."""
MEMORY = 2 << 30
"""Maximum bytes that a reader of a small file may allocate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Outcome for one file."""

    outcome: Outcome
    reason: str = ""


class ReaderTimeout(BaseException):
    """A reader exceeded its time limit."""


def try_reader(target: Target, content: bytes, expected: object = None, seconds: float | None = None) -> Result:
    """Return the outcome of the reader for a file, with a time limit; `expected` is what a valid file holds."""
    target.path.write_bytes(content)
    files = sorted(target.path.parent.iterdir())
    try:
        with warnings.catch_warnings(), bounded_memory(), bounded_time(seconds):
            warnings.simplefilter("error")
            value = target.read()
    except BlockNerfError as error:
        problem = _message_problem(str(error), target)
        result = Result(outcome="failed" if problem else "rejected", reason=problem or str(error))
    except (Exception, ReaderTimeout) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
        result = Result(outcome="failed", reason=reason)
    else:
        changed = target.sealed and value != expected
        result = Result(outcome="failed", reason="returned another value") if changed else Result(outcome="accepted")
    if target.path.read_bytes() != content or sorted(target.path.parent.iterdir()) != files:
        return Result(outcome="failed", reason="the reader changed files")
    return result


def _message_problem(message: str, target: Target) -> str | None:
    """Return what is wrong with an error message; None for one line of readable length that names the file."""
    start = message[:200]
    if len(message.splitlines()) != 1:
        return f"the message is not one line: {start!r}"
    named = (target.path, target.path.parent, *([] if target.source is None else [target.source]))
    if not any(str(path) in message for path in named):
        return f"the message does not name the file: {start}"
    if len(message) > MAX_MESSAGE_LENGTH + len(str(target.path)):
        return f"the message has {len(message)} characters: {start}"
    return None


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Limit the additional address space of the process to `MEMORY`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = Path("/proc/self/statm")
    if not used.is_file():  # not Linux
        yield
        return
    current = int(used.read_text().split()[0]) * resource.getpagesize()
    limit = current + MEMORY if hard == resource.RLIM_INFINITY else min(hard, current + MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def bounded_time(seconds: float | None) -> Iterator[None]:
    """Raise `ReaderTimeout` after `seconds`; without a limit if it is None."""
    if seconds is None:
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise ReaderTimeout(f"not finished after {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, stop)
    running = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
        signal.setitimer(signal.ITIMER_REAL, *running)  # pytest's own timer
