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
class HashGridParams:
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
class ColorParams:
    """Layers from features, the first of which is the logit of density, to the logits of a color."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


def unfit(part: HashGridParams, color: ColorParams | None = None) -> dict[str, str]:
    """What of the form of networks is beyond a backend, by backend (`backends.LIMITS`)."""
    found = [] if part.grid.features_per_level in (2, 4) else [f"{part.grid.features_per_level} features an entry"]
    if len(part.weights) != 2:
        found.append(f"{len(part.weights)} layers on a grid")
    if color is not None and len(color.weights) != 3:
        found.append(f"{len(color.weights)} color layers")
    if color is not None and len(color.weights[0]) not in (16, 32, 64):
        found.append(f"color layers of {len(color.weights[0])}")
    return {"triton": ", ".join(found)} if found else {}
