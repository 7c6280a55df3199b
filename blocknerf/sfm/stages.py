"""Runs stages of a job in a process of its own, shows their progress, and ends the process with this one."""

import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from blocknerf.errors import CaptureError
from blocknerf.processes import stop
from blocknerf.sfm.work_folder import WorkFolder

LOGGER = logging.getLogger("blocknerf.sfm")
"""Lines of progress and decisions; the jobs print them."""
LOG_SECONDS = 10.0
"""Time between two lines of progress."""
WORKER = "blocknerf.sfm.worker"
"""Module that runs a stage."""
INSTALL = "pip install 'pycolmap>=4.2,<5'"


def check_installed() -> None:
    """Raise if pycolmap is missing or of another series.

    Raises:
        CaptureError: names the command that installs it.
    """
    try:
        found = version("pycolmap")
    except PackageNotFoundError:
        raise CaptureError(f"poses: computing them from images needs pycolmap; install it with: {INSTALL}") from None
    if not found.startswith("4."):
        raise CaptureError(f"poses: pycolmap {found} is not of series 4; run: {INSTALL}")


def run_stage(stage: str, title: str, work: WorkFolder, threads: int, limit: float | None = None) -> list[str]:
    """Run a stage, unless it is finished, and return the lines it printed other than progress.

    Args:
        stage: Name of the stage for the worker.
        title: What the lines of progress call it.
        work: Folder of the job.
        threads: Number of threads.
        limit: CPU seconds after which the process is killed, on any load of the machine; None for no limit.

    Raises:
        CaptureError: the process failed or ran past the limit; the message names its log.
    """
    seconds = 0 if limit is None else math.ceil(limit)
    command = [sys.executable, "-m", WORKER, stage, str(work.path), str(threads), str(os.getpid()), str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with work.log.open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert process.stdout is not None
        try:
            with process.stdout:
                lines = list(_without_progress(process.stdout, title))
            code = process.wait()
        finally:
            stop(process)
    if code:
        reason = f"was killed by signal {-code}" if code < 0 else f"failed with code {code}"
        if code == -signal.SIGXCPU:
            reason = f"took more than {seconds} CPU seconds"
        raise CaptureError(f"poses: {title}: its process {reason}; see {work.log}")
    return lines


def _without_progress(lines: Iterable[str], title: str) -> Iterator[str]:
    """Log lines like "progress 3 29" with an estimate of the time left, and yield the others."""
    meter = ProgressMeter(title)
    for line in lines:
        words = line.split()
        if words[:1] == ["progress"] and len(words) == 3:
            message = meter.message(int(words[1]), int(words[2]), time.monotonic())
            if message is not None:
                LOGGER.info(message)
        else:
            yield line.rstrip("\n")


class ProgressMeter:
    """Turns counts of a stage into lines with an estimate of the time left, at most one per `LOG_SECONDS`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._first: tuple[int, float] | None = None
        self._last = 0.0

    def message(self, done: int, total: int, now: float) -> str | None:
        """Return a line for these counts at a time in seconds; None if the last one was just before.

        >>> meter = ProgressMeter("features")
        >>> meter.message(0, 40, now=100.0)
        'features: 0 of 40'
        >>> meter.message(5, 40, now=105.0)
        >>> meter.message(10, 40, now=120.0)
        'features: 10 of 40, about 60 s left'
        """
        if self._first is None:
            self._first = done, now
        elif now - self._last < LOG_SECONDS:
            return None
        self._last = now
        start, started = self._first
        if done <= start:
            return f"{self._title}: {done} of {total}"
        left = (now - started) / (done - start) * (total - done)
        return f"{self._title}: {done} of {total}, about {left:.0f} s left"
