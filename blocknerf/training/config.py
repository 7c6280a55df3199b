"""How a block is trained."""

from dataclasses import dataclass
from typing import Any

from blocknerf.quality import Preset

RAYS_PER_STEP: dict[Preset, int] = {"draft": 2048, "standard": 8192, "fine": 16_384}
"""Rays a step. Small steps learn more from the same rays, as long as a step's fixed cost is small beside them."""
PIXEL_PASSES: dict[Preset, float] = {"draft": 0.7, "standard": 8.0, "fine": 30.0}
"""How many rays each pixel of a block is worth."""
POSE_RESTARTS = 3
"""Rounds in which poses are looked for where stretches of a segment have their own; else one is enough.

Measured by `tests/benchmarks/paper`: of what raw poses of drive 0005 cost in PSNR three rounds win back 61 %, one 33 %.
Where every drive of the sample town is displaced as a whole, three leave 1.5 cm and one 1.9 cm, and pictures are no
better.
"""
POSE_STEPS = 900
"""Most steps of a round that looks for poses alone: 3,300 came no nearer (drive 0005, raw poses: 14.6 and 14.3 cm)."""
STEP_BOUNDS: dict[Preset, tuple[int, int]] = {
    "draft": (900, 6000),
    "standard": (8000, 40_000),
    "fine": (30_000, 200_000),
}
"""Fewest and most steps, whatever the number of pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Choices of one block's training; everything that shapes the field itself is in `FieldSpec`."""

    steps: int
    """Optimization steps of the field that is kept."""
    rays_per_step: int = 2048
    """Rays a step."""
    downscale: int = 1
    """Photographs are reduced by this factor."""
    grid_lr: float = 5e-2
    """Learning rate of hash tables at the start."""
    mlp_lr: float = 1e-2
    """Learning rate of the small networks at the start."""
    appearance_lr: float = 5e-4
    """Learning rate of appearance codes at the start."""
    lr_final_ratio: float = 0.05
    """Learning rates fall exponentially to this share of their start."""
    distortion_weight: float = 0.002
    """Weight of the distortion loss, which makes surfaces thin."""
    depth_weight: float = 0.005
    """Weight of the depth losses, where points measure depth."""
    sky_weight: float = 0.01
    """Weight of the sky loss, where masks show the sky."""
    appearance_reg: float = 1e-2
    """Weight of the squared appearance codes, which keeps them near their mean."""
    depth_ray_fraction: float = 0.25
    """Share of rays drawn through measured points, where there are any."""
    pose_refinement: bool = False
    """Whether the poses of each segment are corrected together while the block trains."""
    pose_segment_length: float = 0.0
    """About how long a way, in world units, has one correction; 0 gives each segment one."""
    pose_restarts: int = 1
    """In how many rounds poses are looked for, each with a field begun anew from the poses of the one before."""
    robust_trim: float = 0.0
    """Share of rays, those with the largest errors, that are ignored where their surroundings err as well."""
    image_cache_bytes: int = 1 << 30
    """Bytes that photographs may take in memory."""
    seed: int = 0
    """Source of every random choice."""

    @property
    def pose_steps(self) -> int:
        """Steps of each round but the last, which looks for poses alone."""
        return min(self.steps, POSE_STEPS)

    @property
    def total_steps(self) -> int:
        """Steps of all rounds."""
        return self.steps + (self.pose_restarts - 1) * self.pose_steps

    @classmethod
    def preset(cls, preset: Preset, *, pixels: int, steps: int | None = None, **choices: Any) -> "TrainConfig":
        """The configuration of a preset for a block of so many pixels, with overrides."""
        return cls(steps=steps or default_steps(preset, pixels), rays_per_step=RAYS_PER_STEP[preset], **choices)


def default_steps(preset: Preset, pixels: int) -> int:
    """Steps in which each pixel is seen the preset's number of times on average, within the preset's bounds.

    >>> default_steps("draft", pixels=4_000_000)
    1367
    """
    fewest, most = STEP_BOUNDS[preset]
    return min(max(int(PIXEL_PASSES[preset] * pixels / RAYS_PER_STEP[preset]), fewest), most)
