"""Camera trajectory of a video: one pose and focal length per frame."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.errors import RunError
from blocknerf.geometry import is_rigid

MAX_FRAMES = 100_000
"""Maximum frames of a video: more than an hour at 24 fps; frame files have five-digit numbers."""
MAX_SIDE = 8192
"""Maximum side of a frame, in pixels (8K)."""
MAX_PIXELS = 8192 * 4352
"""Maximum pixels of a frame: 139,264 macroblocks of 16x16, the limit of H.264 level 6.2; encoding takes 6 GiB."""
MIN_FPS, MAX_FPS = 0.01, 1000.0
"""Frame rates that MP4 files and players support."""


def check_video(frames: int, width: int, height: int, fps: float) -> None:
    """Check that a video is not empty and can be encoded, before any memory of its size is allocated.

    Raises:
        RunError: A value is out of bounds; names the bound.
    """
    if not 0 < frames <= MAX_FRAMES:
        raise RunError(f"trajectory: it has {frames} frames; use 1 to {MAX_FRAMES}")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        limit = f"at most {MAX_SIDE} pixels per side and {MAX_PIXELS} in total, as {MAX_SIDE}x{MAX_PIXELS // MAX_SIDE}"
        raise RunError(f"trajectory: its size is {width}x{height}; use at least 1x1 pixels, {limit}")
    if not MIN_FPS <= fps <= MAX_FPS:
        raise RunError(f"trajectory: fps is {fps}; use {MIN_FPS} to {MAX_FPS:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Poses of a pinhole camera (square pixels, centered principal point) at equal time steps.

    Raises:
        RunError: On construction, if there are no frames, or a pose, focal length, size or frame rate is invalid.
    """

    camera_to_world: Float[Tensor, "frames 3 4"]
    """OpenCV axes, in the world frame of the capture."""
    focals: Float[Tensor, "frames"]
    """Focal lengths in pixels."""
    width: int
    height: int
    fps: float
    """Frames per second."""

    def __post_init__(self) -> None:
        check_video(len(self.focals), self.width, self.height, self.fps)
        if problem := _problem(self):
            raise RunError(f"trajectory: {problem}")

    def __len__(self) -> int:
        return len(self.focals)

    @property
    def seconds(self) -> float:
        """Duration of the video in seconds."""
        return len(self) / self.fps

    @property
    def length(self) -> float:
        """Path length of the camera, in world units."""
        centers = self.camera_to_world[:, :, 3]
        return float((centers[1:] - centers[:-1]).norm(dim=-1).sum())

    @property
    def cameras(self) -> Cameras:
        """One camera per frame."""
        count = len(self)
        center = self.focals.new_tensor([self.width / 2, self.height / 2]).expand(count, 2)
        return Cameras(
            camera_to_world=self.camera_to_world,
            intrinsics=torch.cat([self.focals[:, None].expand(count, 2), center], -1),
            distortion=self.focals.new_zeros(count, 6),
            model=torch.zeros(count, dtype=torch.int64),
            width=torch.full((count,), self.width),
            height=torch.full((count,), self.height),
        )

    def resized(self, width: int, height: int) -> "Trajectory":
        """Return the same trajectory for another video size, with the same vertical field of view."""
        return replace(self, focals=self.focals * (height / self.height), width=width, height=height)


def _problem(trajectory: Trajectory) -> str | None:
    """Return what is invalid in a trajectory, where, and how to fix it; None for a valid one."""
    if len(trajectory.camera_to_world) != len(trajectory.focals):
        return f"it has {len(trajectory.camera_to_world)} poses and {len(trajectory.focals)} focals; use one per frame"
    rigid = is_rigid(trajectory.camera_to_world)
    if not rigid.all():
        first = int((~rigid).nonzero()[0])
        return f"frame {first}: camera_to_world is not a finite rigid motion; use a rotation without scale or shear"
    valid_focals = trajectory.focals.isfinite() & (trajectory.focals > 0)
    if not valid_focals.all():
        first = int((~valid_focals).nonzero()[0])
        return f"frame {first}: focal is {float(trajectory.focals[first])}; use a positive number of pixels"
    return None
