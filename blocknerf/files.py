"""Files that are whole or absent: atomic writing, and JSON that is refused with a sentence."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blocknerf.errors import BlockNerfError, RunError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` (a file or a folder is made there) that becomes `path` on success.

    It keeps the suffix, since encoders choose a format by it. On an error it is removed and what stood at
    `path` before is untouched; on success it is flushed to disk first and replaces what stood there.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(part)
        yield part
        _flush(part)
        _replace(part, path)
    except BaseException as error:
        _remove(part)
        refusal = _refusal(error, path, part)
        if refusal is None:
            raise
        raise refusal from error


def write_atomic(path: Path | str, data: str | bytes) -> None:
    """Write a whole file or none.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
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


def read_json(path: Path | str, what: str, error: type[BlockNerfError] = RunError) -> dict[str, Any]:
    """The object in a JSON file; `what` names the file's role in a message ("city", "capture").

    Raises:
        RunError: (or the kind given as `error`) it is missing, unreadable, or not a JSON object.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: this {what} file does not exist; check the path, or run the job that writes it") from None
    except json.JSONDecodeError as fault:
        place = f"line {fault.lineno} column {fault.colno}: {fault.msg}"
        raise error(f"{path}: this {what} file is not valid JSON ({place}); correct it or write it again") from None
    except UnicodeDecodeError:
        raise error(f"{path}: this {what} file is not UTF-8 text; correct it or write it again") from None
    except OSError as fault:
        raise error(f"{path}: this {what} file cannot be read ({fault.strerror}); check the path") from None
    if not isinstance(data, dict):
        raise error(f"{path}: this {what} file holds a {type(data).__name__}, not an object; write it again")
    return data


def check_format(
    found: object, expected: str, where: Path | str, remedy: str, error: type[BlockNerfError] = RunError
) -> None:
    """Refuse content of another format than `expected`, a name and a version like "blocknerf.city/1".

    `where` begins the message; `remedy` ends it, but for a newer version, which a newer blocknerf reads.

    Raises:
        RunError: (or the kind given as `error`) it is foreign or newer.
    """
    if found == expected:
        return
    name, _, version = expected.partition("/")
    match = re.fullmatch(rf"{re.escape(name)}/(\d+)", found) if isinstance(found, str) else None
    if match and int(match[1]) > int(version):
        raise error(f"{where}: format: {found} is newer than this version reads ({expected}); update blocknerf")
    raise error(f"{where}: format: {found!r} is not {expected}; {remedy}")


def _remove(path: Path) -> None:
    """Make way, as far as that is possible: what keeps it from being removed is not the error to report."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    """Force a file, or every file of a folder, to disk: a rename must not overtake the content."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def _replace(part: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # A folder cannot be renamed onto one that has content; for an instant neither stands there.
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(old)
        part.rename(path)
        _remove(old)
    else:
        part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
