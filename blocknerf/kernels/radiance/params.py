"""Parameters of a block's networks, as passed to kernels."""

from dataclasses import dataclass

from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.hash_grid import GridSpec

DENSITY_SHIFT = 1.0
"""Subtracted from the logit of density.

Logits start near 0, so density starts at 1/e per half extent of the block. A ray across the block then has a
transmittance of exp(-2/e) = 0.48 in the first step, so gradients reach all of its samples.
"""
DENSITY_LIMIT = 15.0
"""Maximum logarithm of density, in the block's scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HashGridParams:
    """A hash grid and the MLP on top of it."""

    grid: GridSpec
    table: Float[Tensor, "entries features"]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    active_levels: float | Tensor | None = None
    """How many levels are active, the last one partly; None is all."""
    half: Float16[Tensor, "entries features"] | None = None
    """A copy of the table for GPU kernels. None makes one in every call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorParams:
    """MLP from features (the first is the density logit) to color logits."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


def unfit(params: HashGridParams, color: ColorParams | None = None) -> dict[str, str]:
    """Return what exceeds a backend's `backends.LIMITS`, by backend."""
    limits = (
        [] if params.grid.features_per_level in (2, 4) else [f"{params.grid.features_per_level} features per entry"]
    )
    if len(params.weights) != 2:
        limits.append(f"{len(params.weights)} layers on a grid")
    if color is not None and len(color.weights) != 3:
        limits.append(f"{len(color.weights)} color layers")
    if color is not None and len(color.weights[0]) not in (16, 32, 64):
        limits.append(f"color layers of width {len(color.weights[0])}")
    return {"triton": ", ".join(limits)} if limits else {}
