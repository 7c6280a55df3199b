"""What is known of a block before its rays are followed."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.spacing import Spacing

DENSITY_SHIFT = 1.0
"""Subtracted from the logit of density, so that rays begin clear in training."""
DENSITY_LIMIT = 15.0
"""Density is at most e to this, in the block's own scale."""
STEP = 1.0 / 256.0
"""A share of a ray's light that is too small to see: a step of an 8-bit picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLayers:
    """A hash grid and the layers on top of it."""

    grid: GridSpec
    table: Float[Tensor, "entries features"]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    active_levels: float | None = None
    """How many levels are on, the last one partly; None is all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RadianceNetwork:
    """The networks of a block, its place in the world and how its rays are sampled; lengths are in world units."""

    proposal: GridLayers
    """Gives the logit of a density that places samples."""
    field: GridLayers
    """Gives features, the first of which is the logit of density."""
    color_weights: tuple[Tensor, ...]
    """Layers from features to the logits of a color."""
    color_biases: tuple[Tensor, ...]
    origin: tuple[float, float, float]
    half_extent: float
    spacing: Spacing
    proposal_samples: int
    samples: int
    cells: Bool[Tensor, "side side side"] | None
    """Which cells of the contracted cube are not empty; None says nothing of any."""
