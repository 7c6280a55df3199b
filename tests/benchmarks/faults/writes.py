"""Where a process writes files: counting the moments at which it could be stopped there, and stopping it at one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path


def count_writes(target: Path) -> Callable[[], None]:
    """Note in a file, at each of them, how many moments inside writes there have been so far."""

    def prepare() -> None:
        target.write_text("0")
        number = 0

        def noted() -> None:
            nonlocal number
            number += 1
            target.write_text(str(number))

        _watch(noted)

    return prepare


def killed_at(moment: int) -> Callable[[], None]:
    """End the process by SIGKILL at the n-th moment inside a write: half written, not flushed, or not yet renamed."""

    def prepare() -> None:
        number = 0

        def count() -> None:
            nonlocal number
            number += 1
            if number == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        _watch(count)

    return prepare


def _watch(moment: Callable[[], None]) -> None:
    """Call this inside of every write that is to be whole or absent, three times each."""
    flush, replace, rename, write_bytes = os.fsync, Path.replace, Path.rename, Path.write_bytes

    def half_written(path: Path, data: bytes) -> int:
        if path.name.startswith("."):  # a temporary file of an atomic write
            write_bytes(path, data[: len(data) // 2])
            moment()
        return write_bytes(path, data)

    def before(action: Callable[..., object]) -> Callable[..., object]:
        def called(*given: object) -> object:
            moment()
            return action(*given)

        return called

    Path.write_bytes = half_written  # type: ignore[method-assign]
    os.fsync = before(flush)  # type: ignore[assignment]
    Path.replace, Path.rename = before(replace), before(rename)  # type: ignore[method-assign,assignment]
