"""Parameters of a block for ray marching."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from blocknerf.geometry import RaySpacing
from blocknerf.kernels.radiance import ColorParams, HashGridParams

MIN_TRANSMITTANCE = 1.0 / 256.0
"""Transmittance, or fraction of a weight, that is too small to see: one step of an 8-bit image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldParams:
    """The networks of a block, its position and its ray sampling; lengths are in world units."""

    proposal: HashGridParams
    """Outputs the density logit that places samples."""
    field: HashGridParams
    """Outputs features; the first is the density logit."""
    color: ColorParams
    origin: tuple[float, float, float]
    half_extent: float
    spacing: RaySpacing
    proposal_samples: int
    samples: int
    occupancy: Bool[Tensor, "side side side"] | None
    """Which cells of the contracted cube are not empty; None if unknown."""
