"""Errors a user can act on: each message says what is wrong, where, and what to do."""

from typing import TypeVar

_Choice = TypeVar("_Choice", bound=str)


class BlockNerfError(Exception):
    """Any error caused by input or environment; the command line prints it as one line and exits with 2."""


class OptionError(BlockNerfError):
    """A number given as an option is out of range."""


class CaptureError(BlockNerfError):
    """A capture (photographs, poses, masks, points) cannot be used as it is."""


class PlacementError(BlockNerfError):
    """Blocks cannot be placed, or do not cover the capture."""


class RunError(BlockNerfError):
    """A run folder or one of its files is missing, foreign or broken."""


class CheckpointError(RunError):
    """Saved weights or training state are corrupt, foreign or newer than this version."""


class TrainingError(BlockNerfError):
    """Training cannot start or had to stop."""


class BackendError(BlockNerfError):
    """A kernel backend asked for by name cannot be used here."""


def one_of(
    value: object,
    choices: tuple[_Choice, ...],
    what: str,
    error: type[BlockNerfError] = RunError,
    remedy: str = "choose one of them",
) -> _Choice:
    """The choice that a value is; `what` names the value's role in a message.

    Type hints bind no caller at run time, and a value that no branch knows must not end in the last one.

    >>> one_of("b", ("a", "b"), "letter")
    'b'

    Raises:
        RunError: (or the kind given as `error`) it is none of them; the message lists them.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise error(f"{what} {value!r:.80} is none of {', '.join(choices)}; {remedy}")
