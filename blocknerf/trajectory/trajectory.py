"""A film's camera: where it stands, where it looks and how wide, one pose a picture."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.errors import RunError
from blocknerf.geometry import is_rigid

MAX_FRAMES = 100_000
"""Frames of a video: more than an hour at 24 a second, and their files are numbered with five digits."""
MAX_SIDE = 8192
"""Pixels of a frame's side: 8K."""
MAX_PIXELS = 8192 * 4352
"""Pixels of a frame: 139,264 macroblocks of 16x16, all that H.264 allows (level 6.2); encoding them takes 6 GiB."""
MIN_FPS, MAX_FPS = 0.01, 1000.0
"""Frames a second that MP4 and its players count with."""


def check_video(frames: int, width: int, height: int, fps: float) -> None:
    """Refuse a video that is empty or larger than can be encoded, before anything of that size is made.

    Raises:
        RunError: names the bound.
    """
    if not 0 < frames <= MAX_FRAMES:
        raise RunError(f"trajectory: it has {frames} frames; give 1 to {MAX_FRAMES}")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        most = f"at most {MAX_SIDE} pixels a side and {MAX_PIXELS} in all, as {MAX_SIDE}x{MAX_PIXELS // MAX_SIDE}"
        raise RunError(f"trajectory: its size is {width}x{height}; give at least 1x1 pixels, {most}")
    if not MIN_FPS <= fps <= MAX_FPS:
        raise RunError(f"trajectory: fps is {fps}; give {MIN_FPS} to {MAX_FPS:g} frames a second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Poses of an ideal camera (square pixels, principal point in the middle), evenly spaced in time.

    Raises:
        RunError: on construction, when it has no frames, or a pose, a lens, a size or the rate is impossible.
    """

    camera_to_world: Float[Tensor, "frames 3 4"]
    """OpenCV axes, in the world of the capture."""
    focals: Float[Tensor, "frames"]
    """In pixels."""
    width: int
    height: int
    fps: float
    """Frames a second."""

    def __post_init__(self) -> None:
        check_video(len(self.focals), self.width, self.height, self.fps)
        if fault := _fault(self):
            raise RunError(f"trajectory: {fault}")

    def __len__(self) -> int:
        return len(self.focals)

    @property
    def seconds(self) -> float:
        """How long the film lasts."""
        return len(self) / self.fps

    @property
    def length(self) -> float:
        """How far the camera goes, in world units."""
        centers = self.camera_to_world[:, :, 3]
        return float((centers[1:] - centers[:-1]).norm(dim=-1).sum())

    @property
    def cameras(self) -> Cameras:
        """One camera a frame."""
        count = len(self)
        middle = self.focals.new_tensor([self.width / 2, self.height / 2]).expand(count, 2)
        return Cameras(
            camera_to_world=self.camera_to_world,
            intrinsics=torch.cat([self.focals[:, None].expand(count, 2), middle], -1),
            distortion=self.focals.new_zeros(count, 6),
            model=torch.zeros(count, dtype=torch.int64),
            width=torch.full((count,), self.width),
            height=torch.full((count,), self.height),
        )

    def resized(self, width: int, height: int) -> "Trajectory":
        """The same film at another size; the vertical field of view stays."""
        return replace(self, focals=self.focals * (height / self.height), width=width, height=height)


def _fault(trajectory: Trajectory) -> str | None:
    """What makes a trajectory impossible, with its place and remedy; None if nothing does."""
    if len(trajectory.camera_to_world) != len(trajectory.focals):
        return f"it has {len(trajectory.camera_to_world)} poses and {len(trajectory.focals)} focals; give one of each"
    rigid = is_rigid(trajectory.camera_to_world)
    if not rigid.all():
        first = int((~rigid).nonzero()[0])
        return f"frame {first}: camera_to_world is not a finite rigid motion; give a rotation without scale or shear"
    lens = trajectory.focals.isfinite() & (trajectory.focals > 0)
    if not lens.all():
        first = int((~lens).nonzero()[0])
        return f"frame {first}: focal is {float(trajectory.focals[first])}; give a positive number of pixels"
    return None
