"""The same operation out of others, grid and layers one after the other: the definition, where those are references."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend
from blocknerf.kernels.hash_grid import encode
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.radiance.layers import DENSITY_LIMIT, DENSITY_SHIFT, ColorLayers, GridLayers


def grid_network(
    part: GridLayers,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"] | None,
    backend: Backend,
) -> Float[Tensor, "points outputs"]:
    """Outputs at points."""
    encoded = encode(points, part.table, part.grid, footprints, backend, part.active_levels, part.half)
    return mlp(encoded, part.weights, part.biases, row_bias, backend)


def radiance(
    field: GridLayers,
    color: ColorLayers,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"],
    half_extent: float,
    fade: Float[Tensor, "points"] | None,
    backend: Backend,
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """Density and color."""
    features = grid_network(field, points, footprints, None, backend)
    if fade is not None:
        features = fade_gradient(features, fade[:, None])
    logits = mlp(features, color.weights, color.biases, row_bias, backend)
    return density_of(features[:, 0], half_extent), torch.sigmoid(logits)


def density_of(logits: Float[Tensor, "*batch"], half_extent: float) -> Float[Tensor, "*batch"]:
    """Density per world unit: exp, bounded in value, with a gradient that never vanishes above the bound."""
    # One unit of density in the block's own scale, a touch below at the start so that rays begin clear.
    return _TruncatedExp.apply(logits - DENSITY_SHIFT) / half_extent


class _TruncatedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        value = torch.exp(logits.clamp(max=DENSITY_LIMIT))
        ctx.save_for_backward(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        return gradient * value


class _FadeGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


def fade_gradient(values: Tensor, factor: Tensor) -> Tensor:
    """The same values, whose gradient is multiplied by `factor` on the way back."""
    return _FadeGradient.apply(values, factor)
