"""Commands that are killed, and begun again: nothing may be lost, and nothing may be another."""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Literal

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.commands import children, end_group
from tests.benchmarks.faults.town import Town
from tests.benchmarks.faults.verdicts import Result
from tests.benchmarks.faults.writes import killed_at

Whom = Literal["inside a write", "group", "parent", "child"]
STAGES = ("train", "run", "render", "match", "ingest", "evaluate", "export", "partition", "reconcile")
TWO = ("--jobs", "2", "--threads", "2")
"""Of training, where there is a child to kill: later options count."""
SETTLING = 20.0
"""Seconds in which a child has to notice that its parent is gone."""


def kills(town: Town, count: int, chance: random.Random) -> Iterator[Result]:
    """So many kills, half of them inside of writes, each followed by the same command."""
    for number in range(count):
        stage = STAGES[number // 2 % len(STAGES)]
        if number % 2 == 0:
            yield _killed(town, stage, "inside a write", chance)
        else:
            others: tuple[Whom, ...] = ("group", "parent", "child")
            yield _killed(town, "train" if number % 6 > 1 else stage, others[number // 2 % 3], chance)


def _killed(town: Town, stage: str, whom: Whom, chance: random.Random) -> Result:
    folder = town.folder / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(town.before(stage), folder)
    apart = TWO if stage == "train" and whom in ("parent", "child") else ()
    command, kind = town.command(stage, folder, *apart), f"kill of {stage}, {whom}"
    if whom == "inside a write":
        first = commands.run(command, town.folder, killed_at(chance.randint(1, town.writes[stage])))
    else:
        first = commands.run(command, town.folder, while_running=_at_random(town.seconds[stage], whom, chance))
    if first.code not in (-signal.SIGKILL, 0) and not (whom == "child" and first.refusal):
        return Result(kind=kind, fault=f"the killed command ended with {first.code}: {first.errors[-300:]}")
    again = commands.run(town.command(stage, folder), town.folder)
    if again.code != 0:
        return Result(kind=kind, fault=f"the command did not go on ({again.code}): {again.errors[-300:]}")
    return Result(kind=kind, fault=town.difference(stage, folder))


def _at_random(usual: float, whom: Whom, chance: random.Random) -> Callable[[int, float], None]:
    """Kill once, at a random moment of a command's usual time; a child as soon as there is one after that."""
    moment, done = chance.uniform(0.0, usual), False

    def kill(process: int, passed: float) -> None:
        nonlocal done
        if done or passed < moment:
            return
        if whom == "child":
            targets = children(process)
            if not targets:
                return
            os.kill(chance.choice(targets), signal.SIGKILL)
        elif whom == "parent":
            os.kill(process, signal.SIGKILL)
        else:
            end_group(process)
        done = True

    return kill
