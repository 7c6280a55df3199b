"""Processes that a training starts: several blocks in parallel, and the viewer of the run.

Measured on two cores, draft blocks of the sample town: 20,000 to 23,000 rays/s one after the other with two threads;
30,000 to 32,000 rays/s for two in parallel with one thread each.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from blocknerf.errors import BlockNerfError, RunError, TrainingError
from blocknerf.processes import Crew, stop
from pipelines.console import format_duration, log

GIB = 1 << 30
LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The file in which Linux states the memory limit of a container."""


@contextmanager
def live_viewer(run: Path, enabled: bool) -> Iterator[None]:
    """Show the run in the browser while a job runs, if enabled. The two communicate through the run folder only.

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


def max_parallel_blocks(threads: int, memory: float) -> int:
    """Return how many blocks to train in parallel, with at least one thread and `memory` GiB for each."""
    return max(1, min(threads, int(_usable_memory() / (memory * GIB))))


def train_parallel(
    run: Path, names: Sequence[str], jobs: int, options: Mapping[str, Any], *, keep_going: bool = False
) -> None:
    """Train blocks, `jobs` in parallel, by `blocknerf train` with these options. All end with this process.

    Raises:
        TrainingError: A block failed. Unless `keep_going`, the others were stopped, and resume from their checkpoints
            next time.
    """
    workers = _WorkerPool(run, options)
    pool, started = ThreadPoolExecutor(jobs), time.monotonic()
    log(f"training {len(names)} blocks, {jobs} in parallel")
    try:
        with collecting_failures(keep_going) as attempt:
            for done, job in enumerate(as_completed([pool.submit(workers.train, name) for name in names]), start=1):
                with attempt():
                    job.result()
                left = len(names) - done
                if left:
                    trained = done + 0.5 * min(jobs - 1, left)  # The running ones are halfway, on average.
                    time_left = format_duration((time.monotonic() - started) / trained * left)
                    log(f"{done} of {len(names)} blocks trained, about {time_left} left")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        workers.stop()
        pool.shutdown()


@contextmanager
def collecting_failures(keep_going: bool) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Yield a context for the training of each block: its failure is raised immediately, or after all others.

    Raises:
        TrainingError: A block failed; names the first one that did.
    """
    failures: list[str] = []

    @contextmanager
    def attempt() -> Iterator[None]:
        try:
            yield
        except BlockNerfError as error:
            if not keep_going:
                raise
            failures.append(str(error))
            log(f"failed: {error}")

    yield attempt
    if failures:
        more = f" (and {len(failures) - 1} more, as listed above)" if len(failures) > 1 else ""
        raise TrainingError(f"{failures[0]}{more}; all other blocks are trained")


class _WorkerPool(Crew):
    """Processes that train one block each."""

    def __init__(self, run: Path, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.command = [sys.executable, "-m", "pipelines", "train", str(run), "--parent-pid", str(os.getpid())]
        self.command += _flags(options)

    def train(self, name: str) -> None:
        """Train a block, and print what its process prints."""
        with tempfile.TemporaryFile("w+") as stderr:
            process = self.start([*self.command, "--block", name], stdout=subprocess.PIPE, stderr=stderr, text=True)
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    log(line.rstrip("\n"))
            if process.wait() and not self.stopped:
                stderr.seek(0)
                raise TrainingError(_failure_message(name, process.returncode, stderr.read()))


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Return options as command line arguments.

    >>> _flags({"steps": None, "pose_refinement": False, "robust_trim": 0.15, "set": ("field.num_levels=6",)})
    ['--no-pose-refinement', '--robust-trim', '0.15', '--set', 'field.num_levels=6']
    """
    flags = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            for item in value if isinstance(value, tuple) else (value,):
                flags += [f"--{name}", str(item)]
    return flags


def _failure_message(name: str, code: int, stderr: str) -> str:
    """Return why a process failed; an error message of `blocknerf` is returned as it is.

    >>> _failure_message("b001", 2, "blocknerf: error: block b001: loss is nan at step 12")
    'block b001: loss is nan at step 12'
    """
    last = stderr.strip().rpartition("\n")[2]
    if code == 2 and last:
        return last.removeprefix("blocknerf: error: ")
    if code < 0:
        return f"block {name}: its process was killed by signal {-code}; if memory is short, use a lower --jobs"
    return f"block {name}: its process failed with code {code}: {last}"


def _usable_memory() -> int:
    """Return how many bytes this process and its children may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = LIMIT.read_text().strip() if LIMIT.is_file() else "max"
    return min(total, int(limit)) if limit.isdigit() else total
