"""Reading and writing of `capture.json`."""

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_record import CAPTURE_FORMAT, FILE, CaptureRecord, to_frame, to_intrinsics, to_sweep
from blocknerf.capture.capture_table import CaptureTable, read_table, write_table
from blocknerf.capture.frame import Frame, Intrinsics, check_path, pose_from_flat
from blocknerf.capture.frame_table import FrameTable
from blocknerf.capture.lidar import LidarSweep
from blocknerf.errors import CaptureError, error_context
from blocknerf.files import write_atomic
from blocknerf.similarity import IDENTITY

_METADATA = (
    *("source", "is_metric", "geo_origin", "sparse_points", "lidar_points", "raw_poses", "notes"),
    *("applied_transform", "applied_scale"),
)
"""Fields that are in the file as they are."""


def write_capture(capture: Capture, path: Path | str) -> None:
    """Write `capture.json` atomically: one line per frame, distinct intrinsics once, numbers exactly.

    Folders are stored relative to the folder of the file, so that both can be moved together.

    Raises:
        CaptureError: the capture is a part of another, which is written with `write_block_capture`.
    """
    if capture.part is not None:
        raise CaptureError(f"{path}: a part of a capture cannot be written as JSON; use write_block_capture")
    lenses = list(dict.fromkeys(frame.intrinsics for frame in capture.frames))
    numbers = {lens: i for i, lens in enumerate(lenses)}
    lines = header_lines(capture, lenses, path)
    frames = [_line(_frame_data(frame, numbers[frame.intrinsics])) for frame in capture.frames]
    text = ("{\n" + ",\n".join([*lines, _list("frames", frames)]) + "\n}\n").encode()
    write_atomic(path, text)
    write_table(capture.frames, lines, Path(path))


def header_lines(capture: Capture, lenses: Sequence[Intrinsics], path: Path | str) -> list[str]:
    """Return the JSON of a capture for a file at `path`, except for its frames: a line or more for each key.

    Args:
        capture: The capture.
        lenses: The distinct intrinsics, in the order in which the frames number them.
        path: The file; folders are relative to its own.
    """
    header = {
        "format": CAPTURE_FORMAT,
        **{key: _relative_to(path, getattr(capture, key)) for key in ("image_dir", "mask_dir", "points_dir")},
        **{key: getattr(capture, key) for key in _METADATA},
        "source_to_world": [number for row in capture.source_to_world for number in row],
    }
    lines = [f"{json.dumps(key)}: {_line(value)}" for key, value in header.items()]
    lines.append(_list("intrinsics", [_line(_lens_data(lens)) for lens in lenses]))
    lines.append(_list("lidar_sweeps", [_line(_sweep_data(sweep)) for sweep in capture.lidar_sweeps]))
    return lines


def read_capture(path: Path | str, *, use_table: bool = True) -> Capture:
    """Read `capture.json` strictly; the image files are not checked.

    Args:
        path: The file.
        use_table: Whether to take the frames of a large capture from the table next to it, which is not checked again.
            Not for a capture of unknown origin.

    Raises:
        CaptureError: the file is missing, broken, of another format or newer; the message names file, key and fix.
    """
    path = Path(path)
    if use_table and (table := read_table(path)) is not None:
        return capture_of_table(table, path)
    record = FILE.read(path)
    lenses = _lenses(record, path)
    frames = tuple(to_frame(frame, lenses, f"{path}: frames[{i}]") for i, frame in enumerate(record.frames))
    return _capture(record, frames, path)


def capture_of_table(table: CaptureTable, path: Path) -> Capture:
    """Return the capture of a table; its folders are relative to that of the file at `path`.

    Raises:
        CaptureError: the header is broken.
    """
    record = FILE.decode(table.header, str(path))
    return _capture(record, FrameTable(table.columns, _lenses(record, path)), path)


def _lenses(record: CaptureRecord, path: Path) -> list[Intrinsics]:
    return [to_intrinsics(lens, f"{path}: intrinsics[{i}]") for i, lens in enumerate(record.intrinsics)]


def _capture(record: CaptureRecord, frames: Sequence[Frame], path: Path) -> Capture:
    transform = record.source_to_world
    with error_context(str(path)):
        return Capture(
            image_dir=_absolute(path, record.image_dir),
            mask_dir=None if record.mask_dir is None else _absolute(path, record.mask_dir),
            points_dir=None if record.points_dir is None else _absolute(path, record.points_dir),
            frames=frames,
            lidar_sweeps=tuple(map(to_sweep, record.lidar_sweeps)),
            source_to_world=IDENTITY if transform is None else pose_from_flat(transform),
            **{key: getattr(record, key) for key in _METADATA},
        )


def _relative_to(file: Path | str, folder: Path | None) -> str | None:
    if folder is None:
        return None
    return Path(os.path.relpath(folder.resolve(), Path(file).parent.resolve())).as_posix()


def _absolute(file: Path, folder: str) -> Path:
    check_path(folder)
    return Path(os.path.normpath(file.parent.resolve() / folder))


def _lens_data(lens: Intrinsics) -> dict[str, Any]:
    data = {field.name: getattr(lens, field.name) for field in fields(lens)}
    return data | {"model": lens.model.name}


def _frame_data(frame: Frame, lens: int) -> dict[str, Any]:
    data = {field.name: getattr(frame, field.name) for field in fields(frame)}
    pose = [number for row in frame.camera_to_world for number in row]
    return data | {"intrinsics": lens, "camera_to_world": pose}


def _sweep_data(sweep: LidarSweep) -> dict[str, Any]:
    pose = [number for row in sweep.sensor_to_world for number in row]
    return {"path": sweep.path, "timestamp": sweep.timestamp, "sensor_to_world": pose}


def _line(data: object) -> str:
    return json.dumps(data, allow_nan=False, ensure_ascii=False)


def _list(key: str, lines: Sequence[str]) -> str:
    return f'"{key}": [\n' + ",\n".join(lines) + "\n]"
