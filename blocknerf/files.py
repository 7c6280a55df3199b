"""Atomic writes, and bounded reads that reject bad content with a one-line error."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from blocknerf.errors import BlockNerfError, RunError
from blocknerf.values import format_value

MAX_JSON_BYTES = 1 << 30
"""Maximum size of a JSON file; a capture of a million frames takes about 700 MB."""
STALE_SECONDS = 24 * 3600.0
"""Age at which an unfinished write of another host counts as abandoned; its processes are not visible from here."""

_UNFINISHED = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-\d+\.part(\.[^.]*)?")
_WRITES = count()
_MACHINE_ID = Path("/etc/machine-id")
"""Unique id of a Linux machine."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `path` to write to; on success, it replaces the file `path`.

    The temporary path keeps the suffix, since encoders choose a format by it. On an error, it is removed and the old
    file is unchanged. The content is flushed to disk before the file is replaced. If `path` is a symbolic link, its
    target is replaced.

    Raises:
        RunError: the disk is full, the folder is not writable, or `path` exists and is not a file.
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise RunError(f"{path}: cannot be written, since it is {kind}; give the path of a file")
    with _replacing(path) as part:
        yield part
        _flush([part])
        part.replace(path)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder next to `path` to fill; on success, it is renamed to `path`.

    Raises:
        RunError: `path` exists and is not an empty folder, the disk is full, or the parent folder is not writable.
    """
    path = Path(path).absolute()
    with _replacing(path) as part:
        part.mkdir()
        yield part
        _flush(file for file in part.rglob("*") if file.is_file())
        try:
            part.rename(path)  # replaces an empty folder, and nothing else
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise RunError(f"{path}: already exists; give a new or empty folder") from None


def write_atomic(path: Path | str, data: str | bytes) -> None:
    """Write a file atomically.

    Raises:
        RunError: the disk is full, the folder is not writable, or `path` exists and is not a file.
    """
    with atomic_path(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def format_json(data: dict[str, Any]) -> str:
    """Return indented JSON text with keys in the given order; NaN is not JSON and raises ValueError.

    >>> print(format_json({"b": 1, "a": [0.5]}), end="")
    {
      "b": 1,
      "a": [
        0.5
      ]
    }
    """
    # Python's encoder is ten times slower if it indents.
    return msgspec.json.format(json.dumps(data, allow_nan=False, ensure_ascii=False), indent=2) + "\n"


@contextmanager
def open_regular(path: Path | str, what: str, error: type[BlockNerfError]) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file and yield it with its size in bytes; `what` is its name in a message ("city file").

    Devices and pipes are rejected, since reading them may never end.

    Raises:
        FileNotFoundError: the file does not exist.
        BlockNerfError: (of type `error`) the file cannot be read, or is not a regular file.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise error(f"{path}: this {what} cannot be read (it is {kind}); check the path")
        with Path(path).open("rb") as stream:
            yield stream, status.st_size
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise error(f"{path}: this {what} cannot be read ({fault.strerror or fault}); check the path") from None
    except ValueError as fault:
        if "null" not in str(fault):  # NUL in a path; other errors belong to the caller
            raise
        raise error(f"{str(path)!r}: this {what} cannot be read ({fault}); check the path") from None


def read_bounded(path: Path | str, what: str, error: type[BlockNerfError], limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; `what` is its name in a message.

    Raises:
        FileNotFoundError: the file does not exist.
        BlockNerfError: (of type `error`) the file cannot be read, is not a regular file, or is too large.
    """
    with open_regular(path, what, error) as (stream, size):
        if size > limit:
            raise error(f"{path}: this {what} is larger than the limit of {limit / 2**20:,.0f} MiB; check the path")
        return stream.read(size)  # not `limit`, since `read` allocates as many bytes


def check_format_version(
    found: object, expected: str, where: Path | str, remedy: str, error: type[BlockNerfError] = RunError
) -> None:
    """Raise if a format is not the expected one: a name and a version like "blocknerf.city/2".

    The message starts with `where` and ends with `remedy`, or asks to update blocknerf if the version is newer.

    Raises:
        RunError: (or `error`) the format is another one, older or newer.
    """
    if found == expected:
        return
    name, _, version = expected.partition("/")
    match = re.fullmatch(rf"{re.escape(name)}/(\d{{1,9}})", found) if isinstance(found, str) else None
    if match and int(match[1]) > int(version):
        raise error(f"{where}: format: {found} is newer than this version reads ({expected}); update blocknerf")
    if match and 0 < int(match[1]) < int(version):
        raise error(f"{where}: format: {found} is older than this version reads ({expected}); {remedy}")
    raise error(f"{where}: format: {format_value(found)} is not {expected}; {remedy}")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, removed on errors; disk errors become a one-line RunError."""
    part = path.with_name(f".{path.stem[:100]}.{_host()}-{os.getpid()}-{next(_WRITES)}.part{path.suffix[:20]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        yield part
        _flush_folder(path.parent)
    except BaseException as error:
        _remove(part)
        run_error = _as_run_error(error, path, part)
        if run_error is None:
            raise
        raise run_error from error


@cache
def _sweep(folder: Path) -> None:
    """Remove the leftovers of killed writes in a folder, once per process, at the first write into it."""
    with suppress(OSError):  # a folder may be writable without being readable
        for path in folder.iterdir():
            match = _UNFINISHED.fullmatch(path.name)
            if match and _is_abandoned(path, match["host"], int(match["pid"])):
                _remove(path)


def _is_abandoned(part: Path, host: str, pid: int) -> bool:
    """Return whether the process that wrote an unfinished file is gone."""
    if host == _host():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
    try:
        return time.time() - part.stat().st_mtime > STALE_SECONDS
    except OSError:
        return False


@cache
def _host() -> str:
    """Return eight hexadecimal digits for this host; a container has its own name, as it has its own process ids."""
    machine_id = _MACHINE_ID.read_text() if _MACHINE_ID.is_file() else ""
    return hashlib.sha256(f"{os.uname().nodename} {machine_id}".encode()).hexdigest()[:8]


def _remove(path: Path) -> None:
    """Remove a temporary file or folder; errors are ignored, since they are not the ones to report."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _flush(files: Iterable[Path]) -> None:
    """Flush files to disk, so that a rename never becomes durable before the content."""
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Flush a rename to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _as_run_error(error: BaseException, path: Path, part: Path) -> RunError | None:
    """Return a RunError for a disk error; None for any other error, which propagates unchanged."""
    if isinstance(error, BlockNerfError) or not isinstance(error, Exception):
        return None
    number = getattr(error, "errno", None)
    # Libraries (safetensors, libpng, FFmpeg) report a full disk as text in their own exceptions.
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return RunError(
            f"{path}: the disk is full, nothing was written; free some space and run the same command again"
        )
    name = str(getattr(error, "filename", None))
    is_ours = name.startswith(str(part)) or name in map(str, (path, *path.parents))
    if isinstance(error, OSError) and is_ours:
        return RunError(
            f"{path}: cannot be written ({error.strerror}); choose another folder or correct its permissions"
        )
    return None
