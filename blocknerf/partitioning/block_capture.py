"""The part of a capture that trains one block, in one file: its frames in columns, its points, facts of the whole.

Training thus reads as much as the block has, however large the capture is.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import capture_of_table, header_lines
from blocknerf.capture.capture_part import CaptureFacts, CapturePart, SegmentPaths
from blocknerf.capture.capture_table import CaptureTable
from blocknerf.capture.frame_table import to_table
from blocknerf.capture.lidar import LidarSweep, nearest_sweep
from blocknerf.capture.points import PointCloud
from blocknerf.capture.pose_segments import segment_paths
from blocknerf.errors import CaptureError, error_context
from blocknerf.json_file import Positive, PositiveCount, Record
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.similarity import IDENTITY
from blocknerf.tensor_file import TensorFile
from blocknerf.values import first_line

POINTS_RANGE = 4.0
"""Maximum horizontal distance, in radii, of a block's points from its origin.

Cameras of a street block are within 1.5 radii; the depth of what is farther away hardly affects what they show.
"""
MOST = 0.5
"""A block with at least this fraction of all points in range keeps all of them, since cutting would save little."""
FACTS, NUMBERS, ARC_LENGTH, TOTAL = "facts", "frame_numbers", "paths_arc_length", "paths_total"
POSITIONS, COLORS = "points_positions", "points_colors"
_SHAPES: dict[str, tuple[type, tuple[int, ...]]] = {
    NUMBERS: (np.int64, ()), ARC_LENGTH: (np.float64, ()), TOTAL: (np.float64, ()),
    POSITIONS: (np.float32, (3,)), COLORS: (np.uint8, (3,)),
}  # fmt: skip
_MALFORMED = (KeyError, IndexError, TypeError, ValueError, OverflowError)
"""What reading raises if the tensors are not those that `write_block_capture` writes."""
_FILE = TensorFile(
    format="blocknerf.block-capture/1", what="block capture", remedy="partition again", error=CaptureError
)


class _FactsRecord(Record, frozen=True, kw_only=True):
    extent: Positive
    shortest_side: PositiveCount
    longest_side: PositiveCount
    exposure: Positive


class CaptureCutter:
    """Cuts a capture into the parts that train its blocks."""

    def __init__(self, capture: Capture) -> None:
        """Read the points of the capture.

        Raises:
            CaptureError: the points cannot be read.
        """
        self._capture, self._frames = capture, to_table(capture.frames)
        self._facts, self._paths = capture.facts, segment_paths(capture)
        self._cloud = capture.depth_points()
        self._times = capture.column("timestamp") if capture.lidar_sweeps else []
        self._index = None if self._cloud is None else PositionIndex(torch.from_numpy(self._cloud.positions))

    def part(self, block: Block, frames: Sequence[int]) -> Capture:
        """Return the part of the capture with these frames, in this order, and the points around the block."""
        return replace(
            self._capture,
            frames=self._frames.select(frames),
            lidar_sweeps=self._sweeps(frames),
            sparse_points=None,
            lidar_points=None,
            source_to_world=IDENTITY,
            notes=(),
            part=CapturePart(
                facts=self._facts,
                numbers=np.asarray(frames, np.int64),
                points=self._points(block),
                paths=self._paths.select(frames),
            ),
        )

    def _points(self, block: Block) -> PointCloud | None:
        if self._cloud is None or self._index is None:
            return None
        found = self._index.within(block.origin[:2], POINTS_RANGE * block.radius).numpy()
        return self._cloud if len(found) >= MOST * len(self._cloud) else _select(self._cloud, found)

    def _sweeps(self, frames: Sequence[int]) -> tuple[LidarSweep, ...]:
        """Return the sweeps that are nearest in time to any of the frames, in the order of time."""
        if not self._times:
            return ()
        nearest = (nearest_sweep(self._capture.lidar_sweeps, self._times[i]) for i in frames)
        distinct = dict.fromkeys(sweep for sweep in nearest if sweep is not None)
        return tuple(sorted(distinct, key=lambda sweep: sweep.timestamp))


def write_block_capture(capture: Capture, path: Path) -> None:
    """Write the part of a capture that trains a block (`CaptureCutter.part`), atomically."""
    if capture.part is None:
        raise ValueError("not a part of a capture")
    frames, part = to_table(capture.frames), capture.part
    arrays: dict[str, np.ndarray] = {NUMBERS: part.numbers, ARC_LENGTH: part.paths.arc_length, TOTAL: part.paths.total}
    if part.points is not None:
        arrays[POSITIONS] = part.points.positions
        if part.points.colors is not None:
            arrays[COLORS] = part.points.colors
    tensors = {key: torch.from_numpy(np.array(values)) for key, values in arrays.items()}
    tensors |= CaptureTable.of(frames, header_lines(capture, frames.lenses, path)).tensors()
    _FILE.write(path, tensors, {FACTS: json.dumps(asdict(part.facts))})


def read_block_capture(path: Path) -> Capture:
    """Read the part of a capture that trains a block; the image files are not checked.

    Raises:
        CaptureError: the file is missing, damaged, or of another format.
    """
    try:
        metadata, tensors = _FILE.read(path)
    except FileNotFoundError:
        raise CaptureError(f"{path}: this file does not exist; partition again") from None
    try:
        with error_context(str(path)):
            return _capture(msgspec.json.decode(metadata[FACTS], type=_FactsRecord), tensors, path)
    except _MALFORMED as error:
        raise CaptureError(f"{path}: not a readable block capture ({first_line(error)}); partition again") from None


def _capture(facts: "_FactsRecord", tensors: dict[str, Tensor], path: Path) -> Capture:
    arrays = {key: tensors.pop(key).numpy() for key in _SHAPES if key in tensors}
    capture = capture_of_table(CaptureTable.from_tensors(tensors), path)
    capture = replace(capture, frames=to_table(capture.frames).checked())
    points, part = None, dict.fromkeys((NUMBERS, ARC_LENGTH, TOTAL), len(capture))
    if POSITIONS in arrays:
        part |= dict.fromkeys((POSITIONS, COLORS) if COLORS in arrays else (POSITIONS,), len(arrays[POSITIONS]))
        points = PointCloud(positions=arrays[POSITIONS], colors=arrays.get(COLORS))
    for key, count in part.items():
        dtype, shape = _SHAPES[key]
        if arrays[key].dtype != dtype or arrays[key].shape != (count, *shape) or not np.isfinite(arrays[key]).all():
            raise ValueError(f"{key} is not {count} rows of finite {np.dtype(dtype).name}")
    paths = SegmentPaths(arc_length=arrays[ARC_LENGTH], total=arrays[TOTAL])
    whole = CaptureFacts(**msgspec.structs.asdict(facts))
    return replace(capture, part=CapturePart(facts=whole, numbers=arrays[NUMBERS], points=points, paths=paths))


def _select(cloud: PointCloud, indices: Int[np.ndarray, "points"]) -> PointCloud:
    colors = None if cloud.colors is None else cloud.colors[indices]
    return PointCloud(positions=cloud.positions[indices], colors=colors)
