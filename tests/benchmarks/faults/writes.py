"""Points at which a process can be interrupted during file writes: count them, or kill the process at one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path


def count_writes(target: Path) -> Callable[[], None]:
    """Return a function that counts the interruption points inside writes in a file."""

    def prepare() -> None:
        target.write_text("0")
        number = 0

        def count() -> None:
            nonlocal number
            number += 1
            target.write_text(str(number))

        _hook_writes(count)

    return prepare


def kill_at(point: int) -> Callable[[], None]:
    """Return a function that kills the process at the n-th point: half written, not flushed, or not renamed."""

    def prepare() -> None:
        number = 0

        def count() -> None:
            nonlocal number
            number += 1
            if number == point:
                os.kill(os.getpid(), signal.SIGKILL)

        _hook_writes(count)

    return prepare


def _hook_writes(callback: Callable[[], None]) -> None:
    """Call `callback` at three points of every atomic write."""
    flush, replace, rename, write_bytes = os.fsync, Path.replace, Path.rename, Path.write_bytes

    def half_written(path: Path, data: bytes) -> int:
        if path.name.startswith("."):  # a temporary file of an atomic write
            write_bytes(path, data[: len(data) // 2])
            callback()
        return write_bytes(path, data)

    def before(action: Callable[..., object]) -> Callable[..., object]:
        def called(*args: object) -> object:
            callback()
            return action(*args)

        return called

    Path.write_bytes = half_written  # type: ignore[method-assign]
    os.fsync = before(flush)  # type: ignore[assignment]
    Path.replace, Path.rename = before(replace), before(rename)  # type: ignore[method-assign,assignment]
