"""The content of `capture.json`, as it is in the file."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from blocknerf.cameras import CameraModel
from blocknerf.capture.frame import Frame, Intrinsics, Split, pose_from_flat
from blocknerf.capture.lidar import LidarSweep
from blocknerf.errors import CaptureError, error_context
from blocknerf.json_file import Count, JsonFile, Number, Record, Vec3
from blocknerf.values import format_value

CAPTURE_FORMAT = "blocknerf.capture/2"

FlatPose = Annotated[list[Number], msgspec.Meta(min_length=12, max_length=12)]
"""A 3x4 matrix, row by row."""


_Row = tuple[Number, Number, Number, Number]


class LensRecord(Record, frozen=True, kw_only=True):
    """Intrinsics that frames refer to by their index."""

    width: Count
    height: Count
    fx: Number
    fy: Number
    cx: Number
    cy: Number
    model: str
    distortion: tuple[Number, Number, Number, Number, Number, Number]


class FrameRecord(Record, frozen=True, kw_only=True):
    """A frame, in one line of the file."""

    name: str
    image: str
    mask: str | None
    sky_mask: str | None = None
    intrinsics: Count
    camera_to_world: FlatPose
    segment: str
    camera: str
    timestamp: Number | None
    exposure: Number | None
    gps: Vec3 | None
    grayscale: bool
    split: Split | None = None
    depth: str | None = None
    colmap_id: Count | None = None


class SweepRecord(Record, frozen=True, kw_only=True):
    """A LiDAR sweep, in one line of the file."""

    path: str
    timestamp: Number
    sensor_to_world: FlatPose


class CaptureRecord(Record, frozen=True, kw_only=True, tag_field="format", tag=CAPTURE_FORMAT):
    """The whole file; folders are relative to its own."""

    image_dir: str
    mask_dir: str | None = None
    points_dir: str | None = None
    source: str
    is_metric: bool
    geo_origin: Vec3 | None
    sparse_points: str | None
    lidar_points: str | None
    raw_poses: bool = False
    notes: tuple[str, ...] = ()
    source_to_world: FlatPose | None = None
    applied_transform: tuple[_Row, _Row, _Row] | None = None
    applied_scale: Number | None = None
    intrinsics: list[LensRecord]
    lidar_sweeps: tuple[SweepRecord, ...] = ()
    frames: list[FrameRecord]


FILE = JsonFile(content=CaptureRecord, what="capture", remedy="ingest the capture again", error=CaptureError)


def to_intrinsics(record: LensRecord, where: str) -> Intrinsics:
    """Return the intrinsics of a record; `where` is the file and the record in it."""
    if record.model not in CameraModel.__members__:
        known = ", ".join(CameraModel.__members__)
        raise CaptureError(f"{where}.model is {format_value(record.model)}; write one of {known}")
    with error_context(where):
        return Intrinsics(**(msgspec.structs.asdict(record) | {"model": CameraModel[record.model]}))


def to_frame(record: FrameRecord, lenses: Sequence[Intrinsics], where: str) -> Frame:
    """Return the frame of a record, which refers to one of the lenses."""
    if record.intrinsics >= len(lenses):
        raise CaptureError(f"{where}.intrinsics is {record.intrinsics}, out of range; there are {len(lenses)} cameras")
    pose = pose_from_flat(record.camera_to_world)
    fields = msgspec.structs.asdict(record) | {"intrinsics": lenses[record.intrinsics], "camera_to_world": pose}
    with error_context(where):
        return Frame(**fields)


def to_sweep(record: SweepRecord) -> LidarSweep:
    """Return the sweep of a record."""
    pose = pose_from_flat(record.sensor_to_world)
    return LidarSweep(path=record.path, timestamp=record.timestamp, sensor_to_world=pose)
