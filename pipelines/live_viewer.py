"""The viewer in a process next to a job. Jobs and viewer communicate through the run folder only."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocknerf.errors import RunError
from blocknerf.processes import stop
from pipelines.console import log


@contextmanager
def live_viewer(run: Path, enabled: bool) -> Iterator[None]:
    """Show the run in the browser while a job runs, if enabled.

    Raises:
        RunError: The viewer cannot start.
    """
    if not enabled:
        yield
        return
    command = [sys.executable, "-m", "pipelines", "view", str(run), "--watch", "--port", "0"]
    command += ["--parent-pid", str(os.getpid())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url_line = process.stdout.readline()
        if not url_line:
            raise RunError("train: the viewer did not start; see its message above, or leave out --view")
        log(url_line.rstrip("\n"))
        yield
    finally:
        stop(process)
        process.communicate()  # Closes the pipe.
