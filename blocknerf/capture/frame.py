"""One posed photograph."""

from dataclasses import dataclass

from blocknerf.cameras import CameraModel

Pose = tuple[tuple[float, float, float, float], tuple[float, float, float, float], tuple[float, float, float, float]]
"""Camera to world, three rows; OpenCV axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrinsics:
    """A camera's image size and lens; lengths in pixels, pixel centres at 0.5."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: CameraModel = CameraModel.PINHOLE
    distortion: tuple[float, float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2, k3, k4 in OpenCV's sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A photograph, where it was taken from, and what is known of how."""

    name: str
    """Unique in the capture; by default the image's path."""
    image: str
    """Path relative to the capture's folder, with forward slashes."""
    mask: str | None = None
    """Image whose black pixels are to be ignored (movable things)."""
    intrinsics: Intrinsics
    camera_to_world: Pose
    segment: str
    """The stretch of one drive or flight it belongs to; poses are refined per segment."""
    camera: str
    timestamp: float | None = None
    """Seconds."""
    exposure: float | None = None
    """Shutter time (s) times gain (ISO or analog), as recorded."""
    gps: tuple[float, float, float] | None = None
    """Latitude and longitude in degrees, altitude in metres."""
    grayscale: bool = False
