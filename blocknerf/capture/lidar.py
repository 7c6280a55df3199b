"""LiDAR sweeps: point clouds of one moment each, in the coordinates of the sensor."""

from dataclasses import dataclass

from blocknerf.capture.frame import Pose
from blocknerf.errors import CaptureError
from blocknerf.values import finite


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
