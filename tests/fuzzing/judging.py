"""What a reader does with a file: it gives a valid object, or refuses it in one line; anything else is a fault."""

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
from tests.fuzzing.run_files import RUN_FILES
from tests.fuzzing.subjects import Subject
from tests.fuzzing.tensors import TENSORS, resealed

READERS = {
    **{make.__name__: make for make in (*INPUTS, *RUN_FILES, *TENSORS)},
    **{f"{make.__name__}_resealed": resealed(make) for make in TENSORS},
}
"""Makes the reader of each name, with a valid file in a folder of its own."""

Outcome = Literal["accepted", "refused", "fell"]
LONGEST_MESSAGE = 1_000
"""Characters of a refusal besides its path: a line for people."""
MEMORY = 2 << 30
"""Bytes that a reader of a small file may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one file."""

    outcome: Outcome
    reason: str = ""


class TooLong(BaseException):
    """A reader is still busy when its time is over."""


def judged(subject: Subject, content: bytes, expected: object = None, seconds: float | None = None) -> Verdict:
    """What the reader does with this content; `seconds` bounds its time, `expected` is what a sealed file held."""
    subject.path.write_bytes(content)
    listed = sorted(subject.path.parent.iterdir())
    try:
        with warnings.catch_warnings(), bounded_memory(), bounded_time(seconds):
            warnings.simplefilter("error")
            found = subject.read()
    except BlockNerfError as error:
        complaint = _complaint(str(error), subject.path)
        verdict = Verdict(outcome="fell" if complaint else "refused", reason=complaint or str(error))
    except (Exception, TooLong) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        shown = f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
        verdict = Verdict(outcome="fell", reason=shown)
    else:
        changed = subject.sealed and found != expected
        verdict = Verdict(outcome="fell", reason="differs silently") if changed else Verdict(outcome="accepted")
    if subject.path.read_bytes() != content or sorted(subject.path.parent.iterdir()) != listed:
        return Verdict(outcome="fell", reason="the reader changed files")
    return verdict


def _complaint(message: str, path: Path) -> str | None:
    """What is wrong with a refusal; None for one line of a readable length that names the file."""
    shown = message[:200]
    if len(message.splitlines()) != 1:
        return f"the message is not one line: {shown!r}"
    if str(path) not in message and str(path.parent) not in message:
        return f"the message does not name the file: {shown}"
    if len(message) > LONGEST_MESSAGE + len(str(path)):
        return f"the message has {len(message)} characters: {shown}"
    return None


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let the process take so much more address space and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = Path("/proc/self/statm")
    if not used.is_file():  # not Linux
        yield
        return
    held = int(used.read_text().split()[0]) * resource.getpagesize()
    most = held + MEMORY if hard == resource.RLIM_INFINITY else min(hard, held + MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def bounded_time(seconds: float | None) -> Iterator[None]:
    """Stop after so many seconds; without a number, whoever runs the tests bounds the time."""
    if seconds is None:
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TooLong(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    running = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *running)  # that of pytest's own limit
