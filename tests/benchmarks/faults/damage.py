"""Damage files of a finished run: each must raise a one-line error, be recreated, or have no effect.

A changed digit in a JSON file looks like an edit, so the highest bits of text are flipped instead. A run keeps no
digest of captured images and report images: these are not flipped or replaced.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.commands import Outcome
from tests.benchmarks.faults.town import VOLATILE, SmallTown, files
from tests.benchmarks.faults.verdicts import Result
from tests.benchmarks.faults.writes import kill_at

ZEROS = 1 << 20
"""Maximum bytes overwritten with zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file, and a command that reads it."""

    kind: str
    file: str
    """Glob pattern below the folder of town and run; the first match is damaged."""
    stage: str
    again: bool = False
    """Whether the stage was already completed."""


BLOCK = "run/blocks/b000"
READINGS = (
    Reading(kind="field", file=f"{BLOCK}/field.safetensors", stage="render"),
    Reading(kind="field", file=f"{BLOCK}/field.safetensors", stage="match"),
    Reading(kind="occupancy", file=f"{BLOCK}/occupancy.safetensors", stage="render"),
    Reading(kind="occupancy", file=f"{BLOCK}/occupancy.safetensors", stage="evaluate"),
    Reading(kind="preset", file="run/appearance/default.safetensors", stage="render"),
    Reading(kind="checkpoint", file="run/blocks/*/checkpoint/state.safetensors", stage="train"),
    Reading(kind="capture.json", file="run/capture.json", stage="evaluate"),
    Reading(kind="capture.json", file="run/capture.json", stage="partition"),
    Reading(kind="city.json", file="run/city.json", stage="render"),
    Reading(kind="frames.json", file=f"{BLOCK}/frames.json", stage="train"),
    Reading(kind="coverage.json", file="run/coverage.json", stage="report"),
    Reading(kind="pose_corrections.json", file=f"{BLOCK}/pose_corrections.json", stage="align"),
    Reading(kind="pose_corrections.json", file=f"{BLOCK}/pose_corrections.json", stage="render"),
    Reading(kind="poses.json of a run", file="run/poses.json", stage="export"),
    Reading(kind="train.json", file=f"{BLOCK}/train.json", stage="report"),
    Reading(kind="log.jsonl", file=f"{BLOCK}/log.jsonl", stage="report"),
    Reading(kind="evaluation.json", file="run/evaluation.json", stage="report"),
    Reading(kind="evaluation.json", file="run/evaluation.json", stage="evaluate", again=True),
    Reading(kind="render.json", file="run/renders/flythrough/render.json", stage="render", again=True),
    Reading(kind="trajectory.json", file="run/renders/flythrough/trajectory.json", stage="render", again=True),
    Reading(kind="run.json", file="run/run.json", stage="run", again=True),
    Reading(kind="transforms.json", file="town/transforms.json", stage="ingest"),
    Reading(kind="image", file="town/images/*", stage="train"),
    Reading(kind="image", file="town/images/*", stage="ingest"),
    Reading(kind="mask", file="town/masks/*", stage="train"),
    Reading(kind="points", file="town/*.ply", stage="partition"),
    Reading(kind="frame of a video", file="run/renders/flythrough/frames/00002.png", stage="render", again=True),
    Reading(kind="video", file="run/renders/flythrough/video.mp4", stage="render", again=True),
    Reading(kind="video", file="run/renders/flythrough/video.mp4", stage="report"),
    Reading(kind="image of the report", file="run/evaluation/*_render.png", stage="report"),
    Reading(kind="map.png", file="run/map.png", stage="report"),
)
WITHOUT_DIGEST = ("image", "mask", "points", "image of the report", "map.png")
UNDETECTABLE = ("flipped", "zeroed", "another's")
"""Damage that leaves a valid file."""


def _flip(content: bytes, text: bool, rng: random.Random) -> bytes:
    index = rng.randrange(len(content))
    bit = 0x80 if text else 1 << rng.randrange(8)
    return content[:index] + bytes([content[index] ^ bit]) + content[index + 1 :]


def _zero(content: bytes, text: bool, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) // 2)
    end = min(len(content), start + min(ZEROS, max(16, len(content) // 2)))
    return content[:start] + bytes(end - start) + content[end:]


def _truncate(content: bytes, text: bool, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def _empty(content: bytes, text: bool, rng: random.Random) -> bytes:
    return b""


CONTENTS: dict[str, Callable[[bytes, bool, random.Random], bytes]] = {
    "flipped": _flip,
    "zeroed": _zero,
    "cut": _truncate,
    "emptied": _empty,
}
DAMAGES = (*CONTENTS, "another's", "a folder", "a pipe")


def damaged_files(town: SmallTown, count: int, rng: random.Random) -> Iterator[Result]:
    """Damage `count` files, sampled over all kinds."""
    pairs = [(reading, damage) for reading in READINGS for damage in DAMAGES]
    pairs = [(r, d) for r, d in pairs if r.kind not in WITHOUT_DIGEST or d not in UNDETECTABLE]
    unfinished = _interrupted_training(town, rng)
    for reading, damage in rng.sample(pairs, min(count, len(pairs))):
        base = unfinished if reading.kind == "checkpoint" else _base(town, reading)
        yield _run_damaged(town, reading, damage, base, rng)


def _base(town: SmallTown, reading: Reading) -> Path:
    return town.after(reading.stage) if reading.again else town.before(reading.stage)


def _interrupted_training(town: SmallTown, rng: random.Random) -> Path:
    """Return a folder of a training that was killed after a checkpoint."""
    folder = town.folder / "unfinished"
    for percent in range(5, 95, 5):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(town.before("train"), folder)
        point = town.measured("train").writes * percent // 100
        commands.run(town.command("train", folder), town.folder, kill_at(point))
        if list(folder.glob("run/blocks/*/checkpoint/state.safetensors")):
            return folder
    raise RuntimeError("training left no checkpoint")


def _run_damaged(town: SmallTown, reading: Reading, damage: str, base: Path, rng: random.Random) -> Result:
    folder, kind = town.folder / "damaged", f"{reading.kind}, read by {reading.stage}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    file = sorted(folder.glob(reading.file))[0]
    _damage(file, damage, rng)
    outcome = commands.run(town.command(reading.stage, folder), town.folder)
    fault = _fault(town, reading, folder, file, outcome)
    return Result(kind=kind, fault=None if fault is None else f"{damage}: {fault}")


def _damage(file: Path, damage: str, rng: random.Random) -> None:
    content = file.read_bytes()
    if damage in CONTENTS:
        file.write_bytes(CONTENTS[damage](content, file.suffix in (".json", ".jsonl"), rng))
        return
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage == "a pipe":
        os.mkfifo(file)
    else:
        shutil.copy(_another(file, content), file)


def _another(file: Path, content: bytes) -> Path:
    """Return another file of the same role or type with other content; this module if there is none."""
    paths = [*file.parent.parent.glob(f"*/{file.name}"), *file.parent.parent.rglob(f"*{file.suffix}")]
    others = (path for path in paths if path.is_file() and path.read_bytes() != content)
    return next(others, Path(__file__))


def _fault(town: SmallTown, reading: Reading, folder: Path, file: Path, outcome: Outcome) -> str | None:
    """Return the failure; None if an error names the file, or if the result equals the undamaged one."""
    if outcome.code is None:
        return "the command hangs"
    if outcome.code != 0:
        if outcome.error_line is None:
            return f"no one-line error but exit code {outcome.code}: {outcome.errors[-300:]}"
        named = file.name in outcome.error_line or str(file.parent.name) in outcome.error_line
        return None if named else f"error without the name of the file: {outcome.error_line}"
    return None if file.name in outcome.output and "warning" in outcome.output else _silent(town, reading, folder, file)


def _silent(town: SmallTown, reading: Reading, folder: Path, file: Path) -> str | None:
    """Return the first output that differs from the undamaged run, except for the damaged file, or None."""
    expected, damaged = town.after(reading.stage), file.relative_to(folder)
    volatile = VOLATILE - {"report.html"} if reading.stage == "report" else VOLATILE
    for path in sorted(files(expected) - {damaged}):
        if not (folder / path).is_file():
            return f"{path} is missing, silently"
        if path.name not in volatile and (folder / path).read_bytes() != (expected / path).read_bytes():
            return f"{path} differs, silently"
    return None
