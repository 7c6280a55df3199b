"""What earlier jobs wrote into a run, as later ones read it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocknerf.capture.capture import Capture
from blocknerf.capture.offsets import read_offsets
from blocknerf.capture.stretches import Stretch, stretches
from blocknerf.city.manifest import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How the training of one block went."""

    block: str
    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    loss: tuple[float, ...]
    psnr: tuple[float, ...]
    rays_per_second: tuple[float, ...]


def training_downscale(folder: RunFolder) -> int:
    """By how much photographs were shrunk in training, as the first trained block tells; 1 where none does.

    Raises:
        RunError: its record is broken.
    """
    for name in folder.blocks_done():
        path = folder.train_record(name)
        if path.is_file():
            config = read_json(path, "training record").get("config")
            downscale = config.get("downscale") if isinstance(config, dict) else None
            if not isinstance(downscale, int) or isinstance(downscale, bool) or downscale < 1:
                raise RunError(f"{path}: config.downscale: {downscale!r} is not a whole number; train the block again")
            return downscale
    return 1


def refined_stretches(folder: RunFolder, capture: Capture) -> tuple[Stretch, ...] | None:
    """The stretch of each frame, as the first block that refined poses divides segments; None where none did.

    Raises:
        CaptureError: its file of poses is broken.
    """
    paths = (folder.offsets(name) for name in folder.blocks_done())
    path = next((path for path in paths if path.is_file()), None)
    return None if path is None else stretches(capture, read_offsets(path).length)


def read_curve(folder: RunFolder, name: str) -> Curve | None:
    """The training log of a block; None where there is none or it is empty."""
    rows = list(read_lines(folder.log(name)))
    if not rows:
        return None
    try:
        return Curve(
            block=name,
            steps=tuple(int(row["step"]) for row in rows),
            seconds=tuple(float(row["seconds"]) for row in rows),
            loss=tuple(float(row["loss"]) for row in rows),
            psnr=tuple(float(row["psnr"]) for row in rows),
            rays_per_second=tuple(float(row["rays_per_second"]) for row in rows),
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise RunError(f"{folder.log(name)}: a line lacks {fault}; train the block again") from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line cut short by a kill is left out."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            return
        if isinstance(row, dict):
            yield row
