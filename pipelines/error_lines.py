"""How a command fails: errors of input or environment in one line, and standard streams that cannot be written."""

import errno
import io
import os
import resource
import select
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from blocknerf.errors import BlockNerfError
from blocknerf.options import flag

HINTS = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "raise the limit for the size of files (ulimit -f)",
    errno.EROFS: "choose another folder",
    errno.EACCES: "correct its permissions or choose another folder",
    errno.EPERM: "correct its permissions or choose another folder",
    errno.ENOENT: "check the path",
    errno.EEXIST: "choose another path, or remove what is there",
    errno.ENOTDIR: "a part of the path is a file; give another path",
    errno.EISDIR: "give the path of a file",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "its symbolic links form a loop; correct them",
    errno.EIO: "check the disk or the connection to it, and run the same command again",
    errno.ESTALE: "check the connection to the file server, and run the same command again",
    errno.ETIMEDOUT: "check the connection to the file server, and run the same command again",
    errno.EMFILE: "raise the limit for open files (ulimit -n)",
    errno.ENFILE: "close other programs and run the same command again",
    errno.EAGAIN: "close other programs, or raise the limit for processes (ulimit -u)",
}
DEFAULT_HINT = "check the path and its permissions"
"""Hint for other errors of the system about a path."""

OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "out of memory",
    "bad_alloc",
    "failed to map segment",
    "can't start new thread",
)
"""Texts in errors of other types by which libraries report a lack of memory."""
MIN_ADDRESS_SPACE = 1 << 31
"""Bytes of address space needed to load all libraries and compile kernels. With less, some abort without raising."""
MEMORY_OPTIONS = ("downscale", "width", "frames", "max_frames", "image_cache_gb", "block_cache_gb", "jobs", "threads")
"""Options that reduce the memory of a command, most effective first."""


def error_line(error: BaseException, options: Iterable[str] = ()) -> str | None:
    """Return the message for an error of input or environment; None for a bug.

    Args:
        error: The error that ended a command.
        options: Parameters of the command; the message suggests those that save memory.
    """
    if isinstance(error, BlockNerfError):
        return str(error)
    cause = next((link for link in _chain(error) if _is_out_of_memory(link)), None)
    if cause is not None:
        flags = [flag(name) for name in MEMORY_OPTIONS if name in set(options)][:3]
        use_less = f", or use less with {' or '.join(flags)}" if flags else ""
        return f"out of memory ({_first_sentence(cause)}); close other programs or raise the limit{use_less}"
    if isinstance(error, RecursionError):
        return "an input file is nested too deeply; simplify it"
    if isinstance(error, UnicodeEncodeError):
        character = ascii(error.object[error.start : error.end])
        return f"{character} in a name cannot be written as {error.encoding}; rename it, or set PYTHONUTF8=1"
    return _system_error_line(error) if isinstance(error, OSError) else None


def check_address_space() -> None:
    """Raise if libraries would abort the process, without an exception, for lack of address space.

    Raises:
        BlockNerfError: The process is limited to less than `MIN_ADDRESS_SPACE`.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        needed = f"{MIN_ADDRESS_SPACE >> 10} or unlimited"
        raise BlockNerfError(f"the memory limit (ulimit -v) is {limit >> 10} KiB; set it to {needed}")


def prepare_streams() -> None:
    """Redirect closed standard streams to the null device, and escape characters that the encoding lacks."""
    null = os.open(os.devnull, os.O_RDWR)
    while null < 3:  # Otherwise a file of the run would get a closed stream's number, and with it what libraries print.
        null = os.open(os.devnull, os.O_RDWR)
    os.close(null)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # open until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def stdout_closed() -> bool:
    """Return whether the reader of standard output closed the pipe; if so, discard output to avoid an error at exit."""
    output = select.poll()
    output.register(sys.stdout, 0)
    if not output.poll(0):
        return False
    _discard(sys.stdout)
    return True


def end_with_line(line: str) -> None:
    """Write a last line to standard error if it can be written, and flush both streams."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{line}\n")):
        written = False
        with suppress(OSError):
            stream.write(text)
            stream.flush()
            written = True
        if not written:
            _discard(stream)


def _system_error_line(error: OSError) -> str | None:
    """Return the message for an error of the system that names a path or has a known hint; None for others."""
    if error.errno is None or not (error.filename or error.errno in HINTS):
        return None
    path = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    return f"{path or 'input or output'}: {error.strerror}; {HINTS.get(error.errno, DEFAULT_HINT)}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes: without memory, a library may fail while it reports the first error."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    is_memory_error = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return is_memory_error or any(text in str(error).lower() for text in OUT_OF_MEMORY_TEXTS)


def _first_sentence(error: BaseException) -> str:
    """Return the first line of an error message, without the addresses that libraries add."""
    lines = str(error).strip().splitlines()
    return lines[0].rpartition("] . ")[2][:120] if lines else type(error).__name__


def _discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, including its buffered output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
