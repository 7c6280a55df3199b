"""Training configuration of a block."""

from dataclasses import dataclass
from typing import Any

from blocknerf.quality import Preset

RAYS_PER_STEP: dict[Preset, int] = {"draft": 2048, "standard": 8192, "fine": 16_384}
"""Rays per step. Small steps learn more from the same rays, as long as a step's fixed cost is small in comparison."""
PIXEL_PASSES: dict[Preset, float] = {"draft": 0.7, "standard": 8.0, "fine": 30.0}
"""Training rays per pixel of the block."""
POSE_RESTARTS = 3
"""Rounds of pose refinement when segments are divided into pose segments; otherwise one round is enough.

Measured by `tests/benchmarks/paper`: of the PSNR that the raw poses of segment 0005 cost, three rounds recover 61 %
and one recovers 33 %. When each segment of the sample town is displaced as a whole, three rounds leave 1.5 cm and one
leaves 1.9 cm, and image quality is the same.
"""
POSE_STEPS = 900
"""Maximum steps of a pose-only round: 3,300 steps are no better (segment 0005, raw poses: 14.6 and 14.3 cm)."""
STEP_BOUNDS: dict[Preset, tuple[int, int]] = {
    "draft": (900, 6000),
    "standard": (8000, 40_000),
    "fine": (30_000, 200_000),
}
"""Minimum and maximum number of steps, by preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Training options of one block. `FieldSpec` has the options of the field itself."""

    steps: int
    """Optimization steps of the final round, which trains the field that is saved."""
    rays_per_step: int = 2048
    """Rays per step."""
    downscale: int = 1
    """Factor by which images are downscaled."""
    grid_lr: float = 5e-2
    """Initial learning rate of the hash tables."""
    mlp_lr: float = 1e-2
    """Initial learning rate of the MLPs."""
    appearance_lr: float = 5e-4
    """Initial learning rate of the appearance codes."""
    lr_final_ratio: float = 0.05
    """Ratio of the final to the initial learning rate; the decay is exponential."""
    distortion_weight: float = 0.002
    """Weight of the distortion loss, which makes surfaces thin."""
    depth_weight: float = 0.005
    """Weight of the depth losses, for rays with a measured depth."""
    sky_weight: float = 0.01
    """Weight of the sky loss, for frames with a sky mask."""
    appearance_reg: float = 1e-2
    """Weight of the squared appearance codes; keeps them near zero."""
    depth_ray_fraction: float = 0.25
    """Fraction of rays drawn through measured points, if there are any."""
    pose_refinement: bool = False
    """Whether to refine the poses during training, with one correction per pose segment."""
    pose_segment_length: float = 0.0
    """Approximate path length of a pose segment, in world units; 0 means one correction per segment."""
    pose_restarts: int = 1
    """Rounds of pose refinement; each trains a new field, starting from the poses of the previous round."""
    robust_trim: float = 0.0
    """Fraction of rays treated as outliers by error; they are ignored where their neighborhood has outliers too."""
    image_cache_bytes: int = 1 << 30
    """Bytes of memory for the image cache."""
    seed: int = 0
    """Random seed."""

    @property
    def pose_steps(self) -> int:
        """Steps of each round before the last; these rounds only refine poses."""
        return min(self.steps, POSE_STEPS)

    @property
    def total_steps(self) -> int:
        """Total steps of all rounds."""
        return self.steps + (self.pose_restarts - 1) * self.pose_steps

    @classmethod
    def preset(cls, preset: Preset, *, pixels: int, steps: int | None = None, **overrides: Any) -> "TrainConfig":
        """Return the configuration of a preset for a block with `pixels` pixels, with overrides."""
        rays = overrides.pop("rays_per_step", RAYS_PER_STEP[preset])
        return cls(steps=steps or default_steps(preset, pixels, rays), rays_per_step=rays, **overrides)


def default_steps(preset: Preset, pixels: int, rays_per_step: int | None = None) -> int:
    """Return the steps that draw each pixel `PIXEL_PASSES` times on average, within `STEP_BOUNDS`.

    >>> default_steps("draft", pixels=4_000_000)
    1367
    """
    lower, upper = STEP_BOUNDS[preset]
    return min(max(int(PIXEL_PASSES[preset] * pixels / (rays_per_step or RAYS_PER_STEP[preset])), lower), upper)
