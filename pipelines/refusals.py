"""Failures that are no fault of the program, each as one line: what is wrong, where, and what to do."""

import errno
import resource
from collections.abc import Iterable, Iterator

from blocknerf.errors import BlockNerfError
from blocknerf.options import flag

REMEDIES = {
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
    errno.ELOOP: "its symbolic links lead in a circle; correct them",
    errno.EIO: "check the disk or the connection to it, and run the same command again",
    errno.ESTALE: "check the connection to the file server, and run the same command again",
    errno.ETIMEDOUT: "check the connection to the file server, and run the same command again",
    errno.EMFILE: "raise the limit for open files (ulimit -n)",
    errno.ENFILE: "close other programs and run the same command again",
    errno.EAGAIN: "close other programs, or raise the limit for processes (ulimit -u)",
}
CHECK = "check the path and its permissions"
"""What to do about a path where the system's reason is a rarer one."""

LACKS_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "out of memory",
    "bad_alloc",
    "failed to map segment",
    "can't start new thread",
)
"""How libraries say so in errors that are of another kind."""
MIN_ADDRESS_SPACE = 1 << 31
"""Bytes of address space in which all libraries load and kernels compile; below, some abort instead of raising."""
LIGHTER = ("downscale", "width", "frames", "max_frames", "image_cache_gb", "block_cache_gb", "at_once", "threads")
"""Options by which a command takes less memory, most effective first."""


def refusal_of(error: BaseException, options: Iterable[str] = ()) -> str | None:
    """The line for an error of input or environment; None for a fault of the program.

    Args:
        error: What ended a command.
        options: Parameters of the command, to name those that help.
    """
    if isinstance(error, BlockNerfError):
        return str(error)
    short = next((each for each in _chain(error) if _lacks_memory(each)), None)
    if short is not None:
        helpful = [flag(name) for name in LIGHTER if name in set(options)][:3]
        less = f", or ask for less by {' or '.join(helpful)}" if helpful else ""
        return f"memory ran out ({_first_sentence(short)}); close other programs or raise its limit{less}"
    if isinstance(error, RecursionError):
        return "a file of the input nests its content too deeply to be read; simplify it"
    if isinstance(error, UnicodeEncodeError):
        unknown = ascii(error.object[error.start : error.end])
        return f"{unknown} in a name cannot be written as {error.encoding}; rename it, or set PYTHONUTF8=1"
    return _system_refusal(error) if isinstance(error, OSError) else None


def check_address_space() -> None:
    """Refuse to load libraries that would abort the process, without an exception, where they lack memory.

    Raises:
        BlockNerfError: the process may take less than `MIN_ADDRESS_SPACE`.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < MIN_ADDRESS_SPACE:
        asked = f"{MIN_ADDRESS_SPACE >> 10} or unlimited"
        raise BlockNerfError(f"the limit for memory (ulimit -v) is {limit >> 10} KiB; set it to {asked}")


def _system_refusal(error: OSError) -> str | None:
    """The line for what the system refused, where it names a path or the reason lies outside of the program."""
    if error.errno is None or not (error.filename or error.errno in REMEDIES):
        return None
    place = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    return f"{place or 'input or output'}: {error.strerror}; {REMEDIES.get(error.errno, CHECK)}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it: where memory is short, a library may fail while it tells of it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _lacks_memory(error: BaseException) -> bool:
    known = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return known or any(text in str(error).lower() for text in LACKS_MEMORY)


def _first_sentence(error: BaseException) -> str:
    """What an error says, without the advice and addresses that libraries add."""
    lines = str(error).strip().splitlines()
    return lines[0].rpartition("] . ")[2][:120] if lines else type(error).__name__
