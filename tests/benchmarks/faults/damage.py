"""Damaged files of a finished run: each is refused in one line, made anew, or of no consequence.

A digit of a JSON file that becomes another one is no damage that can be told from an edit, so text gets its highest
bits flipped. Of a user's images and of those for the report a run keeps no digest: these are not flipped or exchanged.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.commands import Outcome
from tests.benchmarks.faults.town import VOLATILE, Town, files
from tests.benchmarks.faults.verdicts import Result
from tests.benchmarks.faults.writes import killed_at

ZEROS = 1 << 20
"""Bytes of a run of zeros, where a file has so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file, and a command that reads it."""

    kind: str
    file: str
    """As a pattern below the folder of the town and the run; the first that matches is damaged."""
    stage: str
    again: bool = False
    """Whether the stage was done already."""


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
MIN_PIXEL_VISIBILITY = ("flipped", "zeroed", "another's")
"""Damages that leave a valid file."""


def _flipped(content: bytes, text: bool, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    bit = 0x80 if text else 1 << chance.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def _zeroed(content: bytes, text: bool, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) // 2)
    end = min(len(content), start + min(ZEROS, max(16, len(content) // 2)))
    return content[:start] + bytes(end - start) + content[end:]


def _cut(content: bytes, text: bool, chance: random.Random) -> bytes:
    return content[: chance.randrange(1, len(content))]


def _emptied(content: bytes, text: bool, chance: random.Random) -> bytes:
    return b""


CONTENTS: dict[str, Callable[[bytes, bool, random.Random], bytes]] = {
    "flipped": _flipped,
    "zeroed": _zeroed,
    "cut": _cut,
    "emptied": _emptied,
}
DAMAGES = (*CONTENTS, "another's", "a folder", "a pipe")


def damaged_files(town: Town, count: int, chance: random.Random) -> Iterator[Result]:
    """So many damaged files, of every kind in turn."""
    pairs = [(reading, damage) for reading in READINGS for damage in DAMAGES]
    pairs = [(r, d) for r, d in pairs if r.kind not in WITHOUT_DIGEST or d not in MIN_PIXEL_VISIBILITY]
    unfinished = _unfinished(town, chance)
    for reading, damage in chance.sample(pairs, min(count, len(pairs))):
        base = unfinished if reading.kind == "checkpoint" else _base(town, reading)
        yield _damaged(town, reading, damage, base, chance)


def _base(town: Town, reading: Reading) -> Path:
    return town.after(reading.stage) if reading.again else town.before(reading.stage)


def _unfinished(town: Town, chance: random.Random) -> Path:
    """A training that was killed when it had a checkpoint."""
    folder = town.folder / "unfinished"
    for share in range(5, 95, 5):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(town.before("train"), folder)
        moment = town.writes["train"] * share // 100
        commands.run(town.command("train", folder), town.folder, killed_at(moment))
        if list(folder.glob("run/blocks/*/checkpoint/state.safetensors")):
            return folder
    raise RuntimeError("training left no checkpoint")


def _damaged(town: Town, reading: Reading, damage: str, base: Path, chance: random.Random) -> Result:
    folder, kind = town.folder / "damaged", f"{reading.kind}, read by {reading.stage}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    file = sorted(folder.glob(reading.file))[0]
    _damage(file, damage, chance)
    outcome = commands.run(town.command(reading.stage, folder), town.folder)
    fault = _fault(town, reading, folder, file, outcome)
    return Result(kind=kind, fault=None if fault is None else f"{damage}: {fault}")


def _damage(file: Path, damage: str, chance: random.Random) -> None:
    content = file.read_bytes()
    if damage in CONTENTS:
        file.write_bytes(CONTENTS[damage](content, file.suffix in (".json", ".jsonl"), chance))
        return
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage == "a pipe":
        os.mkfifo(file)
    else:
        shutil.copy(_another(file, content), file)


def _another(file: Path, content: bytes) -> Path:
    """A file of the same role, or at least of the same type, that holds something else; this module where none is."""
    places = [*file.parent.parent.glob(f"*/{file.name}"), *file.parent.parent.rglob(f"*{file.suffix}")]
    others = (path for path in places if path.is_file() and path.read_bytes() != content)
    return next(others, Path(__file__))


def _fault(town: Town, reading: Reading, folder: Path, file: Path, outcome: Outcome) -> str | None:
    """What went wrong; None where the file was refused by name, or the result is the undamaged one."""
    if outcome.code is None:
        return "the command hangs"
    if outcome.code != 0:
        if outcome.refusal is None:
            return f"not one line but {outcome.code}: {outcome.errors[-300:]}"
        named = file.name in outcome.refusal or str(file.parent.name) in outcome.refusal
        return None if named else f"refused without the file's name: {outcome.refusal}"
    return None if file.name in outcome.told and "warning" in outcome.told else _silent(town, reading, folder, file)


def _silent(town: Town, reading: Reading, folder: Path, file: Path) -> str | None:
    """The first product that is not that of the undamaged run, besides the damaged file itself."""
    expected, damaged = town.after(reading.stage), file.relative_to(folder)
    volatile = VOLATILE - {"report.html"} if reading.stage == "report" else VOLATILE
    for path in sorted(files(expected) - {damaged}):
        if not (folder / path).is_file():
            return f"{path} is missing, silently"
        if path.name not in volatile and (folder / path).read_bytes() != (expected / path).read_bytes():
            return f"{path} differs, silently"
    return None
