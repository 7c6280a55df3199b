"""Files that are whole or absent: atomic writes, and bounded reads that refuse bad content with one line."""

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

from blocknerf.errors import BlockNerfError, RunError
from blocknerf.values import format_value

MAX_JSON_BYTES = 1 << 30
"""Bytes of a JSON file; a capture of a million frames takes about 700 MB."""
MAX_INTEGER_DIGITS = 30
"""Digits of a whole number in a JSON file; no quantity here needs more, and conversion takes quadratic time."""
STALE_SECONDS = 24 * 3600.0
"""Age from which an unfinished write of another host, whose processes cannot be seen from here, counts as abandoned."""

_UNFINISHED = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-\d+\.part(\.[^.]*)?")
_WRITES = count()
_MACHINE_ID = Path("/etc/machine-id")
"""Where Linux keeps a number that no other machine has."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside the file `path`, for a writer to fill; on success it replaces the file.

    The temporary path keeps the suffix, since encoders choose a format by it. On an error it is removed and the old
    file stays as it was. The content is flushed to disk before the file is replaced. A symbolic link stays one: its
    target is written.

    Raises:
        RunError: the disk is full, the folder cannot be written to, or something other than a file is at `path`.
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
    """A temporary folder beside `path`, for a writer to fill; on success it is renamed to `path`.

    Raises:
        RunError: `path` exists and is not an empty folder, the disk is full, or the folder above cannot be written to.
    """
    path = Path(path).absolute()
    with _replacing(path) as part:
        part.mkdir()
        yield part
        _flush(file for file in part.rglob("*") if file.is_file())
        try:
            part.rename(path)  # takes the place of an empty folder, and of nothing else
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise RunError(f"{path}: exists already; give a new or empty folder") from None


def write_atomic(path: Path | str, data: str | bytes) -> None:
    """Write a whole file or none.

    Raises:
        RunError: the disk is full, the folder cannot be written to, or something other than a file is at `path`.
    """
    with atomic_path(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def format_json(data: dict[str, Any]) -> str:
    """JSON text in the order given, indented, with a line end; NaN is not JSON and raises ValueError.

    >>> print(format_json({"b": 1, "a": [0.5]}), end="")
    {
      "b": 1,
      "a": [
        0.5
      ]
    }
    """
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@contextmanager
def open_regular(path: Path | str, what: str, error: type[BlockNerfError]) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file opened for reading, and its size in bytes; `what` names its role in a message ("city file").

    Devices and pipes are refused, since reading them may never end.

    Raises:
        FileNotFoundError: it does not exist.
        BlockNerfError: (of the kind given as `error`) it cannot be read, or is no regular file.
    """
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise error(f"{path}: this {what} cannot be read (it is {kind}); check the path")
        with Path(path).open("rb") as stream:
            yield stream, found.st_size
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise error(f"{path}: this {what} cannot be read ({fault.strerror or fault}); check the path") from None
    except ValueError as fault:
        if "null" not in str(fault):  # NUL in a path; other errors are the caller's
            raise
        raise error(f"{str(path)!r}: this {what} cannot be read ({fault}); check the path") from None


def read_bounded(path: Path | str, what: str, error: type[BlockNerfError], limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes, opened as by `open_regular`.

    Raises:
        FileNotFoundError: it does not exist.
        BlockNerfError: (of the kind given as `error`) it cannot be read, is no regular file, or is too large.
    """
    with open_regular(path, what, error) as (stream, size):
        if size > limit:
            most = f"{limit / 2**20:,.0f} MiB"
            raise error(f"{path}: this {what} is larger than the {most} that are read; check the path")
        return stream.read(size)  # not `limit`: so many bytes would be allocated first


def read_json(path: Path | str, what: str, error: type[BlockNerfError] = RunError) -> dict[str, Any]:
    """The object in a JSON file; `what` names the file's role in a message ("city", "capture").

    Raises:
        RunError: (or the kind given as `error`) it is missing, unreadable, or not a JSON object.
    """
    data = read_json_value(path, what, error)
    if not isinstance(data, dict):
        raise error(f"{path}: this {what} file holds a {type(data).__name__}, not an object; write it again")
    return data


def read_json_value(path: Path | str, what: str, error: type[BlockNerfError] = RunError) -> Any:
    """The value in a JSON file, of any kind; `what` names the file's role in a message.

    Raises:
        RunError: (or the kind given as `error`) it is missing, unreadable, or not JSON.
    """
    path = Path(path)
    try:
        return parse_json(read_bounded(path, f"{what} file", error, MAX_JSON_BYTES))
    except FileNotFoundError:
        raise error(f"{path}: this {what} file does not exist; check the path, or run the job that writes it") from None
    except UnicodeError:
        raise error(f"{path}: this {what} file is not UTF-8 text; correct it or write it again") from None
    except ValueError as fault:
        raise error(f"{path}: this {what} file is not valid JSON ({fault}); correct it or write it again") from None


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text, in UTF-8 with or without a byte order mark.

    Raises:
        UnicodeError: it is not UTF-8.
        ValueError: it is not JSON, is nested too deeply, or holds an integer of too many digits or half a character.
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        value = json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as fault:
        raise ValueError(f"line {fault.lineno} column {fault.colno}: {fault.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if half := _SURROGATE.search(text):
        _refuse_half_characters(value, half[0])
    return value


def check_format_version(
    found: object, expected: str, where: Path | str, remedy: str, error: type[BlockNerfError] = RunError
) -> None:
    """Refuse content of another format than `expected`, a name and a version like "blocknerf.city/2".

    `where` begins the message; `remedy` ends it, but for a newer version, which a newer blocknerf reads.

    Raises:
        RunError: (or the kind given as `error`) it is foreign or newer.
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


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
"""The escape of half a character; two that belong together make one character."""


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _refuse_half_characters(value: Any, escape: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{escape} is half a character") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, gone at the end; failures of the disk become one line that names `path`."""
    part = path.with_name(f".{path.stem[:100]}.{_host()}-{os.getpid()}-{next(_WRITES)}.part{path.suffix[:20]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        yield part
        _flush_folder(path.parent)
    except BaseException as error:
        _remove(part)
        refusal = _refusal(error, path, part)
        if refusal is None:
            raise
        raise refusal from error


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed writes left in a folder, once a process: the first write into it looks."""
    with suppress(OSError):  # a folder may be writable without being readable
        for path in folder.iterdir():
            match = _UNFINISHED.fullmatch(path.name)
            if match and _is_abandoned(path, match["host"], int(match["pid"])):
                _remove(path)


def _is_abandoned(part: Path, host: str, pid: int) -> bool:
    """Whether the process that wrote an unfinished file is gone."""
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
    """Eight hexadecimal digits for this host; containers with process numbers of their own have names of their own."""
    known = _MACHINE_ID.read_text() if _MACHINE_ID.is_file() else ""
    return hashlib.sha256(f"{os.uname().nodename} {known}".encode()).hexdigest()[:8]


def _remove(path: Path) -> None:
    """Remove a temporary file or folder, as far as possible: a failure here is not the error to report."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _flush(files: Iterable[Path]) -> None:
    """Force files to disk: a rename must not overtake the content."""
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Force a rename to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refusal(error: BaseException, path: Path, part: Path) -> RunError | None:
    """The sentence for a failure of the disk; None for any other error, which passes as it is."""
    if isinstance(error, BlockNerfError) or not isinstance(error, Exception):
        return None
    number = getattr(error, "errno", None)
    # Libraries (safetensors, libpng, FFmpeg) hand on a full disk as text in exceptions of their own.
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return RunError(
            f"{path}: the disk is full, nothing was written; free some space and run the same command again"
        )
    name = str(getattr(error, "filename", None))
    ours = name.startswith(str(part)) or name in map(str, (path, *path.parents))
    if isinstance(error, OSError) and ours:
        return RunError(
            f"{path}: cannot be written ({error.strerror}); choose another folder or correct its permissions"
        )
    return None
