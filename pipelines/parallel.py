"""Several blocks in training at once, each in a process of its own: a second thread gains a block less than that.

Measured on two cores, draft blocks of the sample town: 20,000 to 23,000 rays a second one after the other with two
threads, 30,000 to 32,000 two at once with one thread each.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from blocknerf.errors import TrainingError
from blocknerf.processes import Crew
from pipelines.console import format_duration, log

GIB = 1 << 30
LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much memory a container may take."""


def max_parallel_blocks(threads: int, memory: float) -> int:
    """How many blocks are worth training at the same time: a thread for each, and its memory in GiB."""
    return max(1, min(threads, int(_usable_memory() / (memory * GIB))))


def train_parallel(run: Path, names: Sequence[str], jobs: int, options: Mapping[str, Any]) -> None:
    """Train blocks, so many at once, by `blocknerf train` with these options; all end with this process.

    Raises:
        TrainingError: one of them failed; the others were stopped, and go on from their checkpoints next time.
    """
    crew = _Trainers(run, options)
    pool, started = ThreadPoolExecutor(jobs), time.monotonic()
    log(f"training {len(names)} blocks, {jobs} at once")
    try:
        for done, job in enumerate(as_completed([pool.submit(crew.train, name) for name in names]), start=1):
            job.result()
            left = len(names) - done
            if left:
                trained = done + 0.5 * min(jobs - 1, left)  # the others at work are half way, on average
                took = time.monotonic() - started
                log(f"{done} of {len(names)} blocks trained, about {format_duration(took / trained * left)} left")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        crew.stop()
        pool.shutdown()


class _Trainers(Crew):
    """Processes that train a block each."""

    def __init__(self, run: Path, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.command = [sys.executable, "-m", "pipelines", "train", str(run), "--parent-pid", str(os.getpid())]
        self.command += _flags(options)

    def train(self, name: str) -> None:
        """Train a block, and tell what its process tells."""
        with tempfile.TemporaryFile("w+") as complaint:
            process = self.start([*self.command, "--block", name], stdout=subprocess.PIPE, stderr=complaint, text=True)
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    log(line.rstrip("\n"))
            if process.wait() and not self.stopped:
                complaint.seek(0)
                raise TrainingError(_reason(name, process.returncode, complaint.read()))


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Options as they are typed.

    >>> _flags({"steps": None, "pose_refinement": False, "robust_trim": 0.15})
    ['--no-pose-refinement', '--robust-trim', '0.15']
    """
    flags = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        elif value is not None:
            flags += [f"--{name}", str(value)]
    return flags


def _reason(name: str, code: int, complaint: str) -> str:
    """Why a process ended; what `blocknerf` refused is said as it was.

    >>> _reason("b001", 2, "blocknerf: error: block b001: loss is nan at step 12")
    'block b001: loss is nan at step 12'
    """
    last = complaint.strip().rpartition("\n")[2]
    if code == 2 and last:
        return last.removeprefix("blocknerf: error: ")
    if code < 0:
        return f"block {name}: its process was ended by signal {-code}; where memory is short, give a lower --jobs"
    return f"block {name}: its process failed with code {code}: {last}"


def _usable_memory() -> int:
    """Bytes that this process and its children may take."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = LIMIT.read_text().strip() if LIMIT.is_file() else "max"
    return min(whole, int(limit)) if limit.isdigit() else whole
