"""What the kernels are told of a block's networks."""

from dataclasses import dataclass

from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.hash_grid import GridSpec

DENSITY_SHIFT = 1.0
"""Subtracted from the logit of density.

Logits begin near 0, so density begins at 1/e per half extent of the block: a ray that crosses the block has a
transmittance of exp(-2/e), or 0.48, in the first step. That is half clear, and gradients reach all of its samples.
"""
DENSITY_LIMIT = 15.0
"""Density is at most e to this, in the block's own scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLayers:
    """A hash grid and the layers on top of it."""

    grid: GridSpec
    table: Float[Tensor, "entries features"]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    active_levels: float | Tensor | None = None
    """How many levels are on, the last one partly; None is all."""
    half: Float16[Tensor, "entries features"] | None = None
    """A copy of the table that kernels on a GPU read; they make one each time where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorLayers:
    """Layers from features, the first of which is the logit of density, to the logits of a color."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
