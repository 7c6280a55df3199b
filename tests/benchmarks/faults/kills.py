"""Kill commands and restart them: no file may be lost or changed."""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Literal

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.commands import children, end_group
from tests.benchmarks.faults.town import SmallTown
from tests.benchmarks.faults.verdicts import Result
from tests.benchmarks.faults.writes import kill_at

Target = Literal["inside a write", "group", "parent", "child"]
STAGES = ("train", "run", "render", "match", "ingest", "evaluate", "export", "partition", "align")
PARALLEL = ("--jobs", "2", "--threads", "2")
"""Options of training with a child process to kill; they override earlier ones."""


def kills(town: SmallTown, count: int, rng: random.Random) -> Iterator[Result]:
    """Kill `count` commands, half of them during writes, and run each again."""
    for number in range(count):
        stage = STAGES[number // 2 % len(STAGES)]
        if number % 2 == 0:
            yield _kill_and_restart(town, stage, "inside a write", rng)
        else:
            targets: tuple[Target, ...] = ("group", "parent", "child")
            yield _kill_and_restart(town, "train" if number % 6 > 1 else stage, targets[number // 2 % 3], rng)


def _kill_and_restart(town: SmallTown, stage: str, target: Target, rng: random.Random) -> Result:
    folder = town.folder / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(town.before(stage), folder)
    options = PARALLEL if stage == "train" and target in ("parent", "child") else ()
    command, kind = town.command(stage, folder, *options), f"kill {stage}, {target}"
    if target == "inside a write":
        first = commands.run(command, town.folder, kill_at(rng.randint(1, town.measured(stage).writes)))
    else:
        first = commands.run(
            command, town.folder, while_running=_at_random_time(town.measured(stage).seconds, target, rng)
        )
    if first.code not in (-signal.SIGKILL, 0) and not (target == "child" and first.error_line):
        return Result(kind=kind, fault=f"the killed command ended with {first.code}: {first.errors[-300:]}")
    again = commands.run(town.command(stage, folder), town.folder)
    if again.code != 0:
        return Result(kind=kind, fault=f"the restarted command failed ({again.code}): {again.errors[-300:]}")
    return Result(kind=kind, fault=town.difference(stage, folder))


def _at_random_time(duration: float, target: Target, rng: random.Random) -> Callable[[int, float], None]:
    """Return a callback that kills once, at a random time; a child as soon as one exists after it."""
    moment, done = rng.uniform(0.0, duration), False

    def kill(process: int, elapsed: float) -> None:
        nonlocal done
        if done or elapsed < moment:
            return
        if target == "child":
            targets = children(process)
            if not targets:
                return
            os.kill(rng.choice(targets), signal.SIGKILL)
        elif target == "parent":
            os.kill(process, signal.SIGKILL)
        else:
            end_group(process)
        done = True

    return kill
