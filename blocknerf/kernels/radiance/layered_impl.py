"""The same operation out of others, grid and layers one after the other: the definition, where those are references."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend
from blocknerf.kernels.hash_grid import encode
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.radiance.activations import scale_gradient, trunc_exp_density
from blocknerf.kernels.radiance.params import ColorParams, HashGridParams


def grid_network(
    part: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"] | None,
    backend: Backend,
) -> Float[Tensor, "points outputs"]:
    """Outputs at points."""
    encoded = encode(points, part.table, part.grid, footprints, backend, part.active_levels, part.half)
    return mlp(encoded, part.weights, part.biases, row_bias, backend)


def radiance(
    field: HashGridParams,
    color: ColorParams,
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
        features = scale_gradient(features, fade[:, None])
    logits = mlp(features, color.weights, color.biases, row_bias, backend)
    return trunc_exp_density(features[:, 0], half_extent), torch.sigmoid(logits)
