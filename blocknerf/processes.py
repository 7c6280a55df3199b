"""Child processes: stopping them, and ending them together with their parent."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""Exit code of an interrupted process, the same as for Ctrl-C in a shell."""
GRACE_SECONDS = 20.0
"""Time for a terminated process to finish its files; then it is killed."""
POLL_SECONDS = 0.5
"""Time between two checks that the parent is alive."""
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt inside the context on SIGTERM or SIGHUP (a closed terminal), as Ctrl-C does.

    Ignored signals stay ignored, as under `nohup`. Has no effect outside the main thread.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handled = [number for number in _SIGNALS if is_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def end_with(parent: int | None) -> None:
    """End this process by SIGTERM when its parent process is gone, even if the parent was killed.

    Args:
        parent: Process id of the parent; None to do nothing.
    """
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), name="end_with", daemon=True).start()


def limit_cpu(seconds: int) -> None:
    """End this process by SIGXCPU when it has used this much CPU time; 0 for no limit."""
    if seconds:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def stop(*processes: subprocess.Popen[Any]) -> None:
    """Terminate processes and wait for them; kill a process that does not end within `GRACE_SECONDS`."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()  # no effect on a process that has ended
        process.wait()


class Crew:
    """Processes that run in parallel, are started from several threads, and are stopped together."""

    def __init__(self) -> None:
        self.stopped = False
        self._processes: list[subprocess.Popen[Any]] = []
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process like `subprocess.Popen`; after `stop`, the process is terminated immediately."""
        with self._lock:
            process = subprocess.Popen(command, **options)
            self._processes.append(process)
            if self.stopped:
                process.terminate()
        return process

    def stop(self) -> None:
        """Stop all processes that are still running, like the function `stop`."""
        with self._lock:
            self.stopped = True
            stop(*self._processes)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    # Sent to the main thread, since a signal to another thread would not wake it from a blocking call.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(INTERRUPTED)
