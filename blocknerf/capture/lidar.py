"""LiDAR sweeps: point clouds of one moment each, in the coordinates of the sensor."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from blocknerf.capture.frame import Pose
from blocknerf.capture.points import MAX_CLOUD, PointCloud, check_ply, read_ply
from blocknerf.errors import CaptureError
from blocknerf.files import open_regular
from blocknerf.values import finite

MAX_SWEEP_SECONDS = 0.1
"""Largest difference in time between an image and its sweep; most sensors turn ten times per second."""
_COLUMNS = {".pcd.bin": 5, ".bin": 4}
"""Numbers per point, by suffix: x, y, z, intensity (KITTI), and the ring (nuScenes); little-endian float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LidarSweep:
    """One sweep of a LiDAR.

    Raises:
        CaptureError: the timestamp is not finite.
    """

    path: str
    """File, relative to the folder of the capture's points."""
    timestamp: float
    """Seconds, on the clock of the frames."""
    sensor_to_world: Pose
    """Pose of the sensor at `timestamp`, three rows."""

    def __post_init__(self) -> None:
        if finite(self.timestamp) is None:
            raise CaptureError("timestamp of a LiDAR sweep is not a finite number; correct it")


def nearest_sweep(sweeps: Sequence[LidarSweep], timestamp: float | None) -> LidarSweep | None:
    """Return the sweep nearest in time, or None if none is within `MAX_SWEEP_SECONDS`.

    Args:
        sweeps: In the order of time.
        timestamp: In seconds; None for an unknown time.
    """
    if timestamp is None or not sweeps:
        return None
    after = bisect_left(sweeps, timestamp, key=attrgetter("timestamp"))
    around = sweeps[max(0, after - 1) : after + 1]
    nearest = min(around, key=lambda sweep: abs(sweep.timestamp - timestamp))
    return nearest if abs(nearest.timestamp - timestamp) <= MAX_SWEEP_SECONDS else None


def read_sweep(path: Path) -> PointCloud:
    """Read a sweep in the coordinates of its sensor: a PLY, a `.bin` of KITTI or a `.pcd.bin` of nuScenes.

    Raises:
        CaptureError: the file is missing, of another kind, cut short or too large, or a position is not finite.
    """
    columns = _columns(path)
    if columns is None:
        return read_ply(path)
    check_sweep(path)
    with open_regular(path, "LiDAR sweep", CaptureError) as (stream, _):
        positions = np.fromfile(stream, "<f4").reshape(-1, columns)[:, :3].astype(np.float32)
    invalid = int((~np.isfinite(positions)).any(-1).sum())
    if invalid:
        raise CaptureError(f"{path}: {invalid} of {len(positions)} positions are not finite; restore this LiDAR sweep")
    return PointCloud(positions=positions)


def check_sweep(path: Path) -> None:
    """Check a sweep by its name and length alone.

    Raises:
        CaptureError: the file is missing, of another kind, cut short or too large.
    """
    columns = _columns(path)
    if columns is None:
        return check_ply(path)
    try:
        with open_regular(path, "LiDAR sweep", CaptureError) as (_, size):
            if size % (4 * columns):
                raise CaptureError(f"{path}: cut short: {size} bytes are not points of {4 * columns}; restore it")
            if size > MAX_CLOUD:
                raise CaptureError(f"{path}: larger than the limit of {MAX_CLOUD >> 20:,} MiB; thin its points")
    except FileNotFoundError:
        raise CaptureError(f"{path}: this LiDAR sweep does not exist; restore it") from None


def _columns(path: Path) -> int | None:
    """Return the numbers per point of a file, or None for a PLY."""
    name = path.name.lower()
    if name.endswith(".ply"):
        return None
    for suffix, columns in _COLUMNS.items():
        if name.endswith(suffix):
            return columns
    raise CaptureError(f"{path}: is not a LiDAR sweep in a supported format; give a .ply, .bin or .pcd.bin")
