"""What is known of a block before its rays are followed."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from blocknerf.kernels.radiance import ColorParams, HashGridParams
from blocknerf.ray_spacing import RaySpacing

STEP = 1.0 / 256.0
"""A share of a ray's light that is too small to see: a step of an 8-bit picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldParams:
    """The networks of a block, its place in the world and how its rays are sampled; lengths are in world units."""

    proposal: HashGridParams
    """Gives the logit of a density that places samples."""
    field: HashGridParams
    """Gives features, the first of which is the logit of density."""
    color: ColorParams
    origin: tuple[float, float, float]
    half_extent: float
    spacing: RaySpacing
    proposal_samples: int
    samples: int
    occupancy: Bool[Tensor, "side side side"] | None
    """Which cells of the contracted cube are not empty; None says nothing of any."""
