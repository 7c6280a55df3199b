"""Processes that belong together: how one is told to end, and that none outlives the one that started it."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""Exit code of a process that was told to end, as shells know it of Ctrl-C."""
GRACE_SECONDS = 20.0
"""How long a process that was told to end may take to leave whole files behind; then it is killed."""
POLL_SECONDS = 0.5
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, and a terminal that closes, end the work inside as Ctrl-C does: by KeyboardInterrupt.

    What is ignored stays ignored, as under `nohup`. Without effect outside of the main thread.
    """
    own = threading.current_thread() is threading.main_thread()
    taken = [number for number in _ENDING if own and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def end_with(parent: int | None) -> None:
    """From now on end this process, by SIGTERM, when the one that started it is gone, even if that was killed.

    Args:
        parent: The number of the process that started this one; None for a process that stands alone.
    """
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), name="end_with", daemon=True).start()


def stop(*processes: subprocess.Popen[Any]) -> None:
    """End processes and wait until they are gone; those that do not end in `GRACE_SECONDS` are killed."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()  # without effect on one that is gone
        process.wait()


class Crew:
    """Processes that work at the same time, started from several threads, and end together."""

    def __init__(self) -> None:
        self.stopped = False
        self._processes: list[subprocess.Popen[Any]] = []
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process as `subprocess.Popen` does; of a crew that was stopped it ends at once."""
        with self._lock:
            process = subprocess.Popen(command, **options)
            self._processes.append(process)
            if self.stopped:
                process.terminate()
        return process

    def stop(self) -> None:
        """End those that are still at work, as `stop` does."""
        with self._lock:
            self.stopped = True
            stop(*self._processes)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    # To the main thread, which may be waiting for something: a signal to another thread would not wake it.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(INTERRUPTED)
