"""Arrow tables of 123D logs: columns with checks, typed metadata, poses at any time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation, Slerp

from blocknerf.errors import CaptureError
from blocknerf.importers.log_images import quaternion_rotation, rigid
from blocknerf.values import MAX_COORDINATE, finite, first_line

MICROSECOND = 1e-6
ARROW_ERRORS = (ValueError, OSError, KeyError, TypeError, NotImplementedError)
"""Bases of pyarrow's errors."""
Metadata = TypeVar("Metadata")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Poses of the vehicle in the order of time."""

    times: Float64[np.ndarray, "poses"]
    """Seconds."""
    positions: Float64[np.ndarray, "poses 3"]
    rotations: Rotation

    def at(self, time: float) -> Float64[np.ndarray, "4 4"]:
        """Return the pose at a time, interpolated, and held before the first and after the last one."""
        time = float(np.clip(time, self.times[0], self.times[-1]))
        position = [float(np.interp(time, self.times, self.positions[:, axis])) for axis in range(3)]
        after = min(max(int(np.searchsorted(self.times, time)), 1), len(self.times) - 1)
        if len(self.times) == 1:
            return rigid(self.rotations[0].as_matrix(), position)
        pair = slice(after - 1, after + 1)
        return rigid(Slerp(self.times[pair], self.rotations[pair])(time).as_matrix(), position)


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """Yield the rows of a table; a column is named without the table's key, and is None where the table lacks it.

    Record batches are read one by one, since images may be inside.

    Raises:
        CaptureError: pyarrow is not installed, or the file is missing or broken.
    """
    key = path.stem
    try:
        with _open(path) as reader:
            names = set(reader.schema.names)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)
                lists = {
                    name: batch.column(f"{key}.{name}").to_pylist() if f"{key}.{name}" in names else None
                    for name in columns
                }
                for i in range(batch.num_rows):
                    yield {name: None if values is None else values[i] for name, values in lists.items()}
    except ARROW_ERRORS as fault:
        reason = f"is not a complete Arrow file ({first_line(fault)})"
        raise CaptureError(f"{path}: {reason}; convert the log again") from None


def read_metadata(path: Path, kind: type[Metadata]) -> Metadata:
    """Return the metadata that a table's schema carries, as MessagePack.

    Raises:
        CaptureError: pyarrow is not installed, the file is broken, or the metadata lack a key.
    """
    try:
        with _open(path) as reader:
            packed = (reader.schema.metadata or {}).get(b"metadata")
        if packed is None:
            raise ValueError("its schema has no metadata")
        return msgspec.msgpack.decode(packed, type=kind)
    except (*ARROW_ERRORS, RecursionError) as fault:  # msgspec's errors are ValueErrors
        raise CaptureError(f"{path}: is not a table of 123D ({first_line(fault)}); convert the log again") from None


def read_trajectory(path: Path) -> Trajectory:
    """Return the vehicle's poses: those of its IMU.

    Raises:
        CaptureError: the file is missing or broken, or times do not increase.
    """
    if not path.is_file():
        raise CaptureError(f"{path}: does not exist; convert the log with its ego states")
    rows = [row for row in read_rows(path, ("timestamp_us", "imu_se3")) if None not in row.values()]
    times = np.array([seconds(row["timestamp_us"], path) for row in rows], np.float64)
    if not len(rows) or (np.diff(times) <= 0).any():
        raise CaptureError(f"{path}: has no poses, or their times do not increase; convert the log again")
    matrices = np.stack([pose_matrix(row["imu_se3"], f"{path}: row {i}") for i, row in enumerate(rows)])
    return Trajectory(times=times, positions=matrices[:, :3, 3], rotations=Rotation.from_matrix(matrices[:, :3, :3]))


def pose_matrix(values: Any, where: str) -> Float64[np.ndarray, "4 4"]:
    """Return the matrix of a pose x, y, z, qw, qx, qy, qz.

    Raises:
        CaptureError: the pose is not seven finite numbers with a unit quaternion.
    """
    numbers = values if isinstance(values, list) else []
    if len(numbers) != 7 or any(finite(number, MAX_COORDINATE) is None for number in numbers):
        raise CaptureError(f"{where}: is not a pose of seven numbers; convert the log again")
    return rigid(quaternion_rotation(values[3:], where), values[:3])


def seconds(time: Any, path: Path) -> float:
    """Return a time in microseconds in seconds.

    Raises:
        CaptureError: the time is not an integer.
    """
    if not isinstance(time, int):
        raise CaptureError(f"{path}: a row has no timestamp_us; convert the log again")
    return time * MICROSECOND


def _open(path: Path) -> Any:
    """Open a table without reading it. Raises CaptureError if pyarrow is not installed."""
    try:
        import pyarrow as pa
    except ImportError:
        raise CaptureError("logs of 123D need pyarrow; install it with: pip install pyarrow") from None
    return pa.ipc.open_file(pa.memory_map(str(path), "r"))
