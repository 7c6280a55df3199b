"""Lock files that name their holder, so that two processes never write the same output at the same time.

The lock is held by the operating system (`flock`) and released when its process ends, however it ends. A file left
behind by a killed process is not locked; the next process takes it over.
"""

import errno
import fcntl
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blocknerf.errors import RunError

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class LockedError(RunError):
    """Another process is writing the same output."""


@contextmanager
def exclusive(path: Path, work: str) -> Iterator[str | None]:
    """Hold the lock file `path` inside the context; `work` describes the job in messages ("block b000: training").

    Yields a description of the killed process that held the lock before, or None.

    Raises:
        LockedError: another process holds the lock; the message names the process, its host and start time.
        RunError: the file cannot be written.
    """
    handle = _open_locked(path, work)
    try:
        previous = _read_holder(path)
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps({"host": platform.node(), "pid": os.getpid(), "since": time.time()}).encode())
        yield previous
    finally:
        try:
            with suppress(OSError):
                path.unlink()  # while still locked, so that no process locks a deleted file
        finally:
            os.close(handle)


@contextmanager
def waiting(path: Path) -> Iterator[None]:
    """Hold the lock file `path` inside the context; wait for it if another process holds it. The file stays.

    Without file locks, or where the file cannot be written, nothing is held.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def holder(path: Path) -> str | None:
    """Return a description of the process that holds the lock file `path`; None if it is not locked."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(path) or "another process"
    except OSError:
        return None
    finally:
        os.close(handle)
    return None


def clear_abandoned(path: Path) -> None:
    """Remove a lock file that is not locked: its process was killed between its last write and the removal.

    For jobs that find their output complete and take no lock. Does nothing if the folder is read-only.
    """
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)


def _open_locked(path: Path, work: str) -> int:
    """Open and lock the lock file; return its file descriptor."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            who = _read_holder(path) or "another process"
            raise LockedError(f"{work} is already running in {who}; wait for it or stop it") from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(handle)
                raise
            logging.getLogger(__name__).warning("%s: this file system has no locks; start each job only once", path)
        with suppress(OSError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        os.close(handle)  # removed by its last holder in the meantime


def _read_holder(path: Path) -> str | None:
    """Return a description of the process that wrote the lock file; None if the file is empty or gone."""
    try:
        facts = json.loads(path.read_bytes()[:4096])
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts["since"]))
        return f"process {int(facts['pid'])} on {facts['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
