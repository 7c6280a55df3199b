"""A film's camera: where it stands, where it looks and how wide, one pose a picture."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.errors import RunError
from blocknerf.geometry import is_rigid
from blocknerf.values import positive

MAX_FRAMES = 1_000_000
"""More than this is a mistake in a file, not a film: eleven hours at 24 pictures a second."""


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
    count = len(trajectory.focals)
    if not 0 < count <= MAX_FRAMES or len(trajectory.camera_to_world) != count:
        return f"it has {count} frames; give 1 to {MAX_FRAMES}"
    if trajectory.width < 1 or trajectory.height < 1:
        return f"its size is {trajectory.width}x{trajectory.height}; give at least 1x1 pixels"
    if positive(trajectory.fps, 1000.0) is None:
        return f"fps is {trajectory.fps}; give more than 0 and at most 1000 frames a second"
    rigid = is_rigid(trajectory.camera_to_world)
    if not rigid.all():
        first = int((~rigid).nonzero()[0])
        return f"frame {first}: camera_to_world is not a finite rigid motion; give a rotation without scale or shear"
    lens = trajectory.focals.isfinite() & (trajectory.focals > 0)
    if not lens.all():
        first = int((~lens).nonzero()[0])
        return f"frame {first}: focal is {float(trajectory.focals[first])}; give a positive number of pixels"
    return None
