"""Errors for the user, each with one line that says what is wrong, where, and what to do, and safe text for them."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

_Choice = TypeVar("_Choice", bound=str)

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control characters, invisible format characters, surrogates and line separators."""
_RAW_BYTES = range(0xDC80, 0xDD00)
"""Code points with which Python represents undecodable bytes of a file name (`surrogateescape`)."""


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


def printable(text: str) -> str:
    r"""Return the text with every invisible or control character escaped.

    >>> print(printable("a\x1b[2Jb\u202ec\udcff"))
    a\x1b[2Jb\u202ec\xff
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number in _RAW_BYTES:
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
