"""What earlier jobs wrote into a run, as later ones read it."""

import hashlib
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blocknerf.capture.capture import Capture
from blocknerf.capture.json_reader import JsonReader
from blocknerf.capture.pose_corrections import read_corrections
from blocknerf.capture.pose_segments import PoseSegment, pose_segments
from blocknerf.city.extras import read_training_record
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import MAX_JSON_BYTES, parse_json, read_bounded
from blocknerf.values import one_case

_REMEDY = "restore the file"
"""The trained weights are good without either record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of a block's `log.jsonl`: how training stood after a step."""

    step: int
    loss: float
    psnr: float
    """In dB, of the pixels of the step."""
    rays_per_second: float
    seconds: float
    """Since training began."""

    @property
    def text(self) -> str:
        """The line as it is written."""
        return json.dumps(asdict(self)) + "\n"


def training_downscale(folder: RunFolder) -> int:
    """By how much photographs were shrunk in training, as the first trained block tells; 1 where none does.

    Raises:
        RunError: its record is broken.
    """
    paths = (folder.train_summary(name) for name in folder.trained_blocks())
    path = next((path for path in paths if path.exists()), None)
    return 1 if path is None else read_training_record(path).downscale


def pose_segments_of_run(folder: RunFolder, capture: Capture) -> tuple[PoseSegment, ...] | None:
    """The stretch of each frame, as the first block that refined poses divides segments; None where none did.

    Raises:
        CaptureError: its file of poses is broken.
    """
    paths = (folder.pose_corrections(name) for name in folder.trained_blocks())
    path = next((path for path in paths if path.exists()), None)
    return None if path is None else pose_segments(capture, read_corrections(path).segment_length)


def read_log(path: Path, digest: str | None = None) -> tuple[LogLine, ...]:
    """Read a block's `log.jsonl`; there are no lines where there is no file, and one that a kill cut short is left out.

    Args:
        path: The file.
        digest: SHA-256 of the whole file, where training is finished.

    Raises:
        RunError: a line holds something else, or the file is not that of the digest; the message names file, line and
            key.
    """
    if digest is not None and path.exists() and log_digest(path) != digest:
        raise RunError(f"{path}: damaged: its content is not what training wrote; restore or remove the file")
    found = []
    for number, row in enumerate(_rows(path), start=1):
        if row is None:
            raise RunError(f"{path}: line {number} is damaged; remove the line, or {_REMEDY}")
        entry = JsonReader(row, f"{path}: line[{number}]", remedy=_REMEDY, error=RunError)
        figures = {key: entry.number(key) for key in ("loss", "psnr", "rays_per_second", "seconds")}
        found.append(LogLine(step=entry.int_("step"), **figures))
    return tuple(found)


def log_digest(path: Path) -> str:
    """SHA-256 of a block's `log.jsonl`."""
    return hashlib.sha256(read_bounded(path, "log", RunError, MAX_JSON_BYTES)).hexdigest()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; lines that are none, as those that a kill cut short, are left out.

    Raises:
        RunError: the file cannot be read.
    """
    return (row for row in _rows(path) if row is not None)


def _rows(path: Path) -> Iterator[dict[str, Any] | None]:
    """The object of each line, or None where it is none; a last line without an end is left out."""
    content = read_bounded(path, "log", RunError, MAX_JSON_BYTES) if path.exists() else b""
    for line in content.splitlines(keepends=True):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            yield row
        elif line.endswith(b"\n"):
            yield None


def difference(written: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """The first parameter, by name, that a run has otherwise than it is asked for, with both values."""
    for key in sorted(written.keys() | asked.keys()):
        if written.get(key) != asked.get(key):
            was, now = (textwrap.shorten(json.dumps(each.get(key)), 80) for each in (written, asked))
            return f"{one_case(key)} {was} and not {now}"
    return None
