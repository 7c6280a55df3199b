"""Hash-grid MLP and radiance composed of `hash_grid` and `mlp`, for any device and floating type.

With the PyTorch backend of both it is the reference to which tests hold the other backends. `auto` runs each by the
fastest backend that supports it, for networks that the fused kernels do not support.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend
from blocknerf.kernels.hash_grid import encode
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.radiance.api import DENSITY_LIMIT, DENSITY_SHIFT, ColorParams, HashGridParams


def grid_network(
    params: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"] | None,
    backend: Backend,
) -> Float[Tensor, "points outputs"]:
    """Return outputs at points."""
    encoded = encode(points, params.table, params.grid, footprints, backend, params.active_levels, params.half)
    return mlp(encoded, params.weights, params.biases, ray_bias, backend)


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"],
    half_extent: float,
    gradient_scale: Float[Tensor, "points"] | None,
    backend: Backend,
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """Return density and color."""
    features = grid_network(field, points, footprints, None, backend)
    if gradient_scale is not None:
        features = scale_gradient(features, gradient_scale[:, None])
    logits = mlp(features, color.weights, color.biases, ray_bias, backend)
    return trunc_exp_density(features[:, 0], half_extent), torch.sigmoid(logits)


def trunc_exp_density(logits: Float[Tensor, "*batch"], half_extent: float) -> Float[Tensor, "*batch"]:
    """Return density per world unit from its logit."""
    # The unit is one over the half extent, so that fields of all block sizes start alike.
    return trunc_exp(logits - DENSITY_SHIFT) / half_extent


class _TruncExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        value = torch.exp(logits.clamp(max=DENSITY_LIMIT))
        ctx.save_for_backward(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        return gradient * value


def trunc_exp(logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return exp, limited to e^DENSITY_LIMIT, with a gradient that does not vanish above the limit."""
    return _TruncExp.apply(logits)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


def scale_gradient(values: Tensor, factor: Tensor) -> Tensor:
    """Return the same values; their gradient is multiplied by `factor`."""
    return _ScaleGradient.apply(values, factor)
