"""The operation composed of `hash_grid` and `mlp`: the reference, if these run in PyTorch."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend
from blocknerf.kernels.hash_grid import encode
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.radiance.activations import scale_gradient, trunc_exp_density
from blocknerf.kernels.radiance.params import ColorParams, HashGridParams


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
