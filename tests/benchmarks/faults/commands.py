"""Run `blocknerf` commands in forked processes without imports, with small fields and frequent checkpoints."""

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

os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # OpenMP threads do not survive a fork

import blocknerf.kernels.threads  # noqa: F401  # before torch: sets the wait policy of threads
from blocknerf.kernels.precompile import is_precompiled, precompile
from pipelines import block_training
from pipelines.cli import COMMANDS, main, module_name
from tests.tiny import shrink_draft, shrink_fits, shrink_overlaps

LIMIT = 120.0
"""Seconds after which a command counts as hanging."""
REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a command."""

    code: int | None
    """None after a timeout; negative if ended by a signal."""
    output: str
    errors: str
    seconds: float

    @property
    def error_line(self) -> str | None:
        """The one-line error message; None if the command ended in another way."""
        lines = self.errors.splitlines()
        return lines[0] if self.code == 2 and len(lines) == 1 else None


def shrink() -> None:
    """Make presets, overlaps and fits tiny, and checkpoints frequent, in this process."""
    shrink_draft(setattr)
    shrink_overlaps(setattr)
    shrink_fits(setattr)
    block_training.CHECKPOINT_SECONDS = 0.02


def load_jobs() -> None:
    """Compile the kernels and import all jobs before forking commands."""
    if not is_precompiled():
        precompile()
    for name in COMMANDS:
        if name != "view":
            importlib.import_module(module_name(name))
    shrink()


def start(argv: list[str], folder: Path, prepare: Callable[[], None] | None = None) -> int:
    """Start a command in its own process group; its output goes to files in the folder."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        for name, descriptor in (("output.txt", 1), ("errors.txt", 2)):
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
    """Run a command until it ends.

    Args:
        argv: Command line without the program.
        folder: Folder of its output.
        prepare: Called in the process before the command.
        while_running: Called repeatedly with the process ID and the seconds since the start.
    """
    begin = time.monotonic()
    process = start(argv, folder, prepare)
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        elapsed = time.monotonic() - begin
        if done or elapsed > LIMIT:
            break
        if while_running is not None:
            while_running(process, elapsed)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status) if done else None
    if code is None:
        end_group(process)
        os.waitpid(process, 0)
    output, errors = ((folder / name).read_text(errors="replace") for name in ("output.txt", "errors.txt"))
    return Outcome(code=code, output=output, errors=errors, seconds=elapsed)


def end_group(process: int) -> None:
    """Kill a command and all its child processes."""
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(process, signal.SIGKILL)


def children(process: int) -> list[int]:
    """Return the child processes of all threads of a command."""
    processes: list[int] = []
    with suppress(OSError):  # the process or one of its threads has just ended
        for thread in Path(f"/proc/{process}/task").iterdir():
            processes += [int(word) for word in (thread / "children").read_text().split()]
    return processes


def _small_python(folder: Path) -> Path:
    """Write a Python wrapper for child processes, which makes their fields small, too."""
    path = folder / "python"
    if not path.exists():
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
            "from tests.benchmarks.faults.commands import main, shrink\nshrink()\nsys.exit(main(sys.argv[3:]))\n"
        )
        path.chmod(0o755)
    return path
