"""Lock files that name their holder: two processes never write the same product at the same time.

The lock is the operating system's (`flock`), so it ends with the process that holds it, however that ends. A file that
is left behind by a killed process is no lock: whoever comes next takes it over.
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

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class LockedError(RunError):
    """Another process is at work on the same product."""


@contextmanager
def exclusive(path: Path, work: str) -> Iterator[str | None]:
    """Hold the lock file `path` while the work inside lasts; `work` names that in a message: "block b000: training".

    Yields who held it before and was killed, or None.

    Raises:
        LockedError: another process holds it; the message says which, on which host and since when.
        RunError: the file cannot be written.
    """
    handle = _open(path, work)
    try:
        before = _holder(path)
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps({"host": platform.node(), "pid": os.getpid(), "since": time.time()}).encode())
        yield before
    finally:
        try:
            with suppress(OSError):
                path.unlink()  # while it is still held, so that nobody holds a file that is gone
        finally:
            os.close(handle)


def holder(path: Path) -> str | None:
    """Who holds the lock file `path` at present; None where nobody does."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path) or "another process"
    except OSError:
        return None
    finally:
        os.close(handle)
    return None


def clear_abandoned(path: Path) -> None:
    """Remove a lock file that nobody holds: a process was killed between its last write and the removal.

    For jobs that find their product complete and take no lock. Does nothing where the folder is read-only.
    """
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)


def _open(path: Path, work: str) -> int:
    """The handle of the lock file, locked."""
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
            who = _holder(path) or "another process"
            raise LockedError(f"{work} is under way already, by {who}; wait for it or stop it") from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                os.close(handle)
                raise
            logging.getLogger(__name__).warning("%s: no locks on this file system; start each job once", path)
        with suppress(OSError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        os.close(handle)  # its last holder has removed it meanwhile


def _holder(path: Path) -> str | None:
    """Who wrote the lock file; None where it is empty or gone."""
    try:
        facts = json.loads(path.read_bytes()[:4096])
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts["since"]))
        return f"process {int(facts['pid'])} on {facts['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
