"""How a block is trained."""

from dataclasses import dataclass
from typing import Any

from blocknerf.presets import Preset

STEPS: dict[Preset, int] = {"draft": 1200, "standard": 10_000, "fine": 40_000}
RAYS: dict[Preset, int] = {"draft": 4096, "standard": 8192, "fine": 16_384}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Choices of one block's training; everything that shapes the field itself is in `FieldSpec`."""

    steps: int
    """Optimization steps."""
    rays: int = 4096
    """Rays a step."""
    downscale: int = 1
    """Photographs are reduced by this factor."""
    grid_rate: float = 1e-2
    """Learning rate of hash tables at the start."""
    network_rate: float = 5e-3
    """Learning rate of the small networks at the start."""
    code_rate: float = 5e-3
    """Learning rate of appearance codes at the start."""
    final_rate: float = 0.03
    """Learning rates fall exponentially to this share of their start."""
    distortion_weight: float = 0.002
    """Weight of the distortion loss, which makes surfaces thin."""
    depth_weight: float = 0.05
    """Weight of the depth losses, where points measure depth."""
    code_weight: float = 1e-4
    """Weight of the squared appearance codes, which keeps them near their mean."""
    depth_share: float = 0.25
    """Share of rays drawn through measured points, where there are any."""
    memory: int = 1 << 30
    """Bytes that photographs may take in memory."""
    seed: int = 0
    """Source of every random choice."""

    @classmethod
    def preset(cls, preset: Preset, *, steps: int | None = None, **choices: Any) -> "TrainConfig":
        """The configuration of a preset, with overrides."""
        return cls(steps=steps or STEPS[preset], rays=RAYS[preset], **choices)
