"""The viewer beside a job, in a process of its own: jobs and viewer know each other by the run folder alone."""

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
def live_viewer(run: Path, wanted: bool) -> Iterator[None]:
    """A page that follows the run for as long as the job takes, where that is wanted.

    Raises:
        RunError: the viewer cannot start.
    """
    if not wanted:
        yield
        return
    command = [sys.executable, "-m", "pipelines", "view", str(run), "--watch", "--port", "0"]
    command += ["--parent-pid", str(os.getpid())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline()
        if not address:
            raise RunError("train: the viewer did not start; see its message above, or leave out --view")
        log(address.rstrip("\n"))
        yield
    finally:
        stop(process)
        process.communicate()  # close the pipe
