"""Hash-grid MLP and radiance of samples, and the parameters of both."""

from dataclasses import dataclass

from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation
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


def grid_network(
    params: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None = None,
    ray_bias: Float[Tensor, "rays hidden"] | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "points outputs"]:
    """Return outputs of an MLP on a hash grid at points of the unit cube; once differentiable in all but footprints.

    `ray_bias` is added to the first layer for all points of a ray, as in `mlp`.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    # Implementations that are composed of other operations pass `backend` on to them.
    implementation = find_implementation("radiance", backend, points, params.table, unfit=unfit(params))
    return implementation.grid_network(params, points, footprints, ray_bias, backend)


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"],
    *,
    half_extent: float,
    gradient_scale: Float[Tensor, "points"] | None = None,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """Return density (per world unit) and color (0..1) of points of the unit cube.

    Once differentiable in the points, the table and all weights. `ray_bias` is added to the color network's first
    layer, one row per ray. Gradients of the hash-grid MLP's outputs are multiplied by `gradient_scale`.

    Raises:
        BackendError: The requested backend cannot be used here.
        ValueError: The shapes do not match.
    """
    implementation = find_implementation("radiance", backend, points, field.table, ray_bias, unfit=unfit(field, color))
    return implementation.radiance(field, color, points, footprints, ray_bias, half_extent, gradient_scale, backend)


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
