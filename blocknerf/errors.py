"""Errors for the user: each message says what is wrong, where, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

_Choice = TypeVar("_Choice", bound=str)


class BlockNerfError(Exception):
    """Base of all errors caused by input or environment. The command line prints one line and exits with 2."""


class OptionError(BlockNerfError):
    """A numeric option is out of range."""


class CaptureError(BlockNerfError):
    """A capture (images, poses, masks, points) cannot be used."""


class PlacementError(BlockNerfError):
    """Blocks cannot be placed, or do not cover the capture."""


class RunError(BlockNerfError):
    """A run folder or one of its files is missing, of another format, or broken."""


class CheckpointError(RunError):
    """Saved weights or training state are corrupt, of another format, or newer than this version."""


class TrainingError(BlockNerfError):
    """Training cannot start or had to stop."""


class BackendError(BlockNerfError):
    """An explicitly requested kernel backend cannot be used here."""


def one_of(
    value: object,
    choices: tuple[_Choice, ...],
    what: str,
    error: type[BlockNerfError] = RunError,
    remedy: str = "choose one of them",
) -> _Choice:
    """Return the value if it is one of the choices; `what` is its name in the message.

    Type hints are not enforced at run time, and an unknown value must not fall through to the last branch.

    >>> one_of("b", ("a", "b"), "letter")
    'b'

    Raises:
        RunError: (or `error`) the value is none of the choices; the message lists them.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise error(f"{what} {value!r:.80} is none of {', '.join(choices)}; {remedy}")


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Prefix the message of any `CaptureError` raised inside with `where`, unless it starts with it."""
    try:
        yield
    except CaptureError as error:
        raise CaptureError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
