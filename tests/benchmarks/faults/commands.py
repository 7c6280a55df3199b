"""Commands of `blocknerf` in forked processes, which import nothing: with small fields and many checkpoints."""

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # OpenMP's threads do not outlive a fork

import blocknerf.kernels.threads  # noqa: F401  # decides how threads wait, so it comes before torch
from blocknerf.kernels.precompile import is_precompiled, precompile
from pipelines import block_training
from pipelines.cli import COMMANDS, main, module_of
from tests.tiny import shrink_draft, shrink_fits, shrink_seams

LIMIT = 120.0
"""Seconds after which a command counts as hanging."""
REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a command."""

    code: int | None
    """None where it did not end in time; negative where a signal ended it."""
    told: str
    errors: str
    seconds: float

    @property
    def refusal(self) -> str | None:
        """The one line with which it refused; None where it did something else."""
        lines = self.errors.splitlines()
        return lines[0] if self.code == 2 and len(lines) == 1 else None


def shrink() -> None:
    """Make presets, seams and fits tiny, and checkpoints frequent, in this process."""
    shrink_draft(setattr)
    shrink_seams(setattr)
    shrink_fits(setattr)
    block_training.CHECKPOINT_SECONDS = 0.02


def load_jobs() -> None:
    """Compile the kernels and import every job, so that forked commands need not."""
    if not is_precompiled():
        precompile()
    for name in COMMANDS:
        if name != "view":
            importlib.import_module(module_of(name))
    shrink()


def start(argv: list[str], folder: Path, prepare: Callable[[], None] | None = None) -> int:
    """Begin a command in a process group of its own; what it tells goes into files of the folder."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        for name, descriptor in (("told.txt", 1), ("errors.txt", 2)):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.executable = str(_small_python(folder))
        if prepare is not None:
            prepare()
        code = main(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(
    argv: list[str],
    folder: Path,
    prepare: Callable[[], None] | None = None,
    while_running: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Run a command to its end.

    Args:
        argv: The command line, without the program.
        folder: Where its output goes.
        prepare: What the process does before.
        while_running: Called again and again with its number and the seconds since its start.
    """
    began = time.monotonic()
    process = start(argv, folder, prepare)
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        passed = time.monotonic() - began
        if done or passed > LIMIT:
            break
        if while_running is not None:
            while_running(process, passed)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status) if done else None
    if code is None:
        end_group(process)
        os.waitpid(process, 0)
    told, errors = ((folder / name).read_text(errors="replace") for name in ("told.txt", "errors.txt"))
    return Outcome(code=code, told=told, errors=errors, seconds=passed)


def end_group(process: int) -> None:
    """Kill a command and all that it started."""
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(process, signal.SIGKILL)


def children(process: int) -> list[int]:
    """Processes that a command has started itself, by whichever of its threads."""
    found: list[int] = []
    with suppress(OSError):  # it, or a thread of it, has just ended
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += [int(word) for word in (thread / "children").read_text().split()]
    return found


def _small_python(folder: Path) -> Path:
    """A program that stands for Python where a job starts others, which then are as small."""
    path = folder / "python"
    if not path.exists():
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
            "from tests.benchmarks.faults.commands import main, shrink\nshrink()\nsys.exit(main(sys.argv[3:]))\n"
        )
        path.chmod(0o755)
    return path
