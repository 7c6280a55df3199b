"""Readers of what training wrote into a run: logs, downscale factor and pose segments."""

import hashlib
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from blocknerf.capture.capture import Capture
from blocknerf.capture.pose_corrections import read_corrections
from blocknerf.capture.pose_segments import PoseSegment, pose_segments
from blocknerf.city.extras import read_training_record
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import MAX_JSON_BYTES, read_bounded
from blocknerf.json_file import Count, JsonFile, Number
from blocknerf.values import one_case

_HINT = "restore the file"
"""The trained weights are usable without the log."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a block's `log.jsonl`: the state of training after a step."""

    step: Count
    loss: Number
    psnr: Number
    """In dB, over the pixels of the step."""
    rays_per_second: Number
    seconds: Number
    """Training time since the first step."""

    @property
    def text(self) -> str:
        """The line of the file."""
        return json.dumps(msgspec.structs.asdict(self)) + "\n"


_LINE = JsonFile(content=LogLine, what="log", remedy=_HINT)


def training_downscale(folder: RunFolder) -> int:
    """Return the downscale factor of training, from the first trained block; 1 if no block records it.

    Raises:
        RunError: The record is broken.
    """
    paths = (folder.train_summary(name) for name in folder.trained_blocks())
    path = next((path for path in paths if path.exists()), None)
    return 1 if path is None else read_training_record(path).downscale


def pose_segments_of_run(folder: RunFolder, capture: Capture) -> tuple[PoseSegment, ...] | None:
    """Return the pose segment of each frame, from the first block that refined poses; None if no block did.

    Raises:
        CaptureError: The block's file of poses is broken.
    """
    paths = (folder.pose_corrections(name) for name in folder.trained_blocks())
    path = next((path for path in paths if path.exists()), None)
    return None if path is None else pose_segments(capture, read_corrections(path).segment_length)


def read_log(path: Path, digest: str | None = None) -> tuple[LogLine, ...]:
    """Return the lines of a block's `log.jsonl`; none if the file does not exist. A cut last line is left out.

    Args:
        path: The file.
        digest: SHA-256 of the whole file; None while training is unfinished.

    Raises:
        RunError: A line is invalid, or the file has another digest. The message names file, line and key.
    """
    if digest is not None and path.exists() and log_digest(path) != digest:
        raise RunError(f"{path}: damaged: its content differs from what training wrote; restore or remove the file")
    lines = []
    for number, line in enumerate(_rows(path), start=1):
        if line is None:
            raise RunError(f"{path}: line {number} is damaged; remove the line, or {_HINT}")
        lines.append(_LINE.decode(line, f"{path}: line[{number}]"))
    return tuple(lines)


def log_digest(path: Path) -> str:
    """Return the SHA-256 of a block's `log.jsonl`."""
    return hashlib.sha256(read_bounded(path, "log", RunError, MAX_JSON_BYTES)).hexdigest()


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the JSON objects of a file of JSON lines. Invalid lines, as a killed process leaves them, are left out.

    Raises:
        RunError: The file cannot be read.
    """
    return (line for line in _rows(path) if line is not None)


def _rows(path: Path) -> Iterator[bytes | None]:
    """Yield each line that is a JSON object, or None if the line is invalid. An unterminated last line is left out."""
    content = read_bounded(path, "log", RunError, MAX_JSON_BYTES) if path.exists() else b""
    for line in content.splitlines(keepends=True):
        if _is_object(line):
            yield line
        elif line.endswith(b"\n"):
            yield None


def _is_object(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, Any])
    except (ValueError, RecursionError):
        return False
    return True


def difference(written: Mapping[str, Any], requested: Mapping[str, Any]) -> str | None:
    """Return the first parameter, by name, that differs between a run and a request, with both values."""
    for key in sorted(written.keys() | requested.keys()):
        if written.get(key) != requested.get(key):
            old, new = (textwrap.shorten(json.dumps(values.get(key)), 80) for values in (written, requested))
            return f"{one_case(key)} {old}, not {new}"
    return None
