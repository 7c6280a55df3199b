"""One posed image and its intrinsics."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from blocknerf.cameras import CameraModel
from blocknerf.errors import CaptureError
from blocknerf.similarity import Rows
from blocknerf.values import MAX_COORDINATE, MAX_SIDE, finite, format_value, one_case, positive

Split = Literal["train", "val", "test"]
"""Use of a frame that the capture itself fixes; only "train" frames train."""
Pose = Rows
"""Camera-to-world matrix, three rows; OpenCV axes."""
_DRIVE_LETTER = re.compile("[A-Za-z]:")  # a Windows path is absolute without a leading slash
_LENS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4")
MAX_INTRINSIC = 1e6
"""Largest magnitude of an intrinsic; beyond it single precision cannot resolve rays, and no real lens is like that."""
MAX_PATH_PART, MAX_PATH = 255, 2_000
"""Maximum bytes of one part of a path, and of a whole path, that file systems accept."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
RIGID_TOLERANCE = 1e-3
"""Largest deviation of R R^T from the identity: files round to a few digits; a scale or shear is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrinsics:
    """Image size and lens of a camera; lengths in pixels, pixel centers at 0.5."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: CameraModel = CameraModel.PINHOLE
    distortion: tuple[float, float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2, k3, k4 as in OpenCV."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise CaptureError(f"image size {self.width}x{self.height} is not positive; give its width and height")
        if max(self.size) > MAX_SIDE:
            raise CaptureError(f"image size {self.width}x{self.height} is beyond {MAX_SIDE} pixels; correct w and h")
        for key, number in zip(_LENS, (self.fx, self.fy, self.cx, self.cy, *self.distortion), strict=True):
            if finite(number, MAX_INTRINSIC) is None:
                raise CaptureError(f"{key} {number:g} is not finite, or beyond {MAX_INTRINSIC:g}; correct the lens")
        if positive(self.fx) is None or positive(self.fy) is None:
            raise CaptureError(f"focal length ({self.fx:g}, {self.fy:g}) is not positive; give it in pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One image with its pose, intrinsics and metadata.

    Raises:
        CaptureError: a path leaves the capture's folder, or the pose is not a rigid transform.
    """

    name: str
    """Unique in the capture; by default the path of the image."""
    image: str
    """Path relative to the capture's folder, with forward slashes."""
    mask: str | None = None
    """Mask image; black pixels are ignored (movable objects)."""
    sky_mask: str | None = None
    """Mask image; white pixels show the sky."""
    intrinsics: Intrinsics
    camera_to_world: Pose
    segment: str
    """Driving segment (one pass of the vehicle) or flight; poses are refined per segment."""
    camera: str
    timestamp: float | None = None
    """Seconds."""
    exposure: float | None = None
    """Shutter time (s) times gain (ISO or analog), as recorded."""
    gps: tuple[float, float, float] | None = None
    """Latitude and longitude in degrees, altitude in meters."""
    grayscale: bool = False
    split: Split | None = None
    """Use that the source fixes; None leaves it to the partition."""
    depth: str | None = None
    """Depth image of the source; kept for exports, not used."""
    colmap_id: int | None = None
    """Number of the image in a COLMAP model; kept for exports."""

    def __post_init__(self) -> None:
        try:
            check_relative(self.image)
            for path in (self.mask, self.sky_mask, self.depth):
                if path is not None:
                    check_relative(path)
            check_rigid(np.array(self.camera_to_world, dtype=np.float64))
            _check_metadata(self)
        except CaptureError as error:
            raise CaptureError(f"frame {one_case(self.name)}: {error}") from None

    @property
    def center(self) -> tuple[float, float, float]:
        """Camera center in the world."""
        x, y, z = (row[3] for row in self.camera_to_world)
        return x, y, z


def check_relative(path: str) -> None:
    """Raise if a path is absolute, leaves the capture's folder, or is not a valid file path."""
    check_path(path)
    parts = PurePosixPath(path).parts
    if not parts or parts[0].startswith("/") or ".." in parts or "\\" in path or _DRIVE_LETTER.fullmatch(parts[0]):
        raise CaptureError(
            f"path {format_value(path)} leaves the capture's folder; give one relative to it, without '..'"
        )


def check_path(path: str) -> None:
    """Raise if a path is too long or contains control characters."""
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in path.split("/")]
    if max(sizes) > MAX_PATH_PART or sum(sizes) + len(sizes) > MAX_PATH or _CONTROL.search(path):
        raise CaptureError(
            f"path {format_value(path)} is too long or holds a control character; give the path of a file"
        )


def check_rigid(matrix: Float64[np.ndarray, "rows 4"]) -> None:
    """Raise if a pose is not finite, orthonormal within `RIGID_TOLERANCE` and right-handed."""
    if not np.isfinite(matrix).all():
        raise CaptureError("the pose holds NaN or infinity; correct it or remove the frame")
    if np.abs(matrix).max() > MAX_COORDINATE:
        raise CaptureError(
            f"the pose holds a number beyond {MAX_COORDINATE:g}; subtract an offset from poses and points"
        )
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID_TOLERANCE:
        scale = np.cbrt(np.linalg.det(rotation))
        raise CaptureError(f"the pose is not rigid (scale {scale:.4g}); remove scale and shear from its rotation")
    if np.linalg.det(rotation) < 0:
        raise CaptureError("the pose mirrors (determinant -1); give a right-handed rotation")


def parse_pose(matrix: Sequence[Any] | np.ndarray) -> Pose:
    """Return the pose of a 3x4 or 4x4 matrix, with its rotation made exactly orthonormal.

    Raises:
        CaptureError: the matrix has another shape, holds a non-number, or is not rigid within `RIGID_TOLERANCE`.
    """
    try:
        array = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    # NumPy would convert text, true and null to numbers.
    values = [value for row in matrix if isinstance(row, list) for value in row]
    if array.shape not in ((3, 4), (4, 4)) or any(isinstance(value, str | bool | None) for value in values):
        raise CaptureError("the pose is not a 3x4 or 4x4 matrix of numbers; write one")
    if array.shape == (4, 4) and np.abs(array[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise CaptureError("the pose's last row is not 0 0 0 1; divide it out, or transpose the matrix")
    check_rigid(array)
    left, _, right = np.linalg.svd(array[:3, :3])
    array[:3, :3] = left @ right
    return pose_from_flat(array[:3].ravel().tolist())


def pose_from_flat(numbers: Sequence[float]) -> Pose:
    """Return twelve numbers as three rows."""
    a, b, c, d, e, f, g, h, i, j, k, m = numbers
    return (a, b, c, d), (e, f, g, h), (i, j, k, m)


def _check_metadata(frame: Frame) -> None:
    numbers = (frame.timestamp, frame.exposure, *(frame.gps or ()))
    if any(finite(number) is None for number in numbers if number is not None):
        raise CaptureError("timestamp, exposure or gps is not a finite number; correct or remove it")
    if frame.exposure is not None and positive(frame.exposure) is None:
        raise CaptureError(f"exposure {frame.exposure:g} is not positive; correct or remove it")
