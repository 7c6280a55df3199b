"""Marching in plain PyTorch: any device, any floating type; the definition the other backend is held to.

It evaluates everything and leaves out afterwards what does not count, where a fast backend never evaluates it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.contraction import torch_impl as contraction
from blocknerf.kernels.hash_grid import level_weights
from blocknerf.kernels.hash_grid import torch_impl as hash_grid
from blocknerf.kernels.marching.params import STEP, FieldParams
from blocknerf.kernels.mlp import torch_impl as layers
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling import torch_impl as pdf_sampling
from blocknerf.kernels.radiance import DENSITY_LIMIT, DENSITY_SHIFT, HashGridParams


def march(
    network: FieldParams, rays: RayBundle, row_bias: Float[Tensor, "rays hidden"], sky: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Color, depth and opacity."""
    even = torch.linspace(0.0, 1.0, network.proposal_samples + 1, device=sky.device, dtype=sky.dtype)
    edges = even.expand(len(rays), -1).contiguous()
    weights, _, _ = _weigh(network, network.proposal, rays, edges)
    halves = sky.new_full((len(rays),), 0.5)
    edges = pdf_sampling.sample_pdf(edges, weights, halves, network.samples, HISTOGRAM_PADDING)
    weights, middles, features = _weigh(network, network.field, rays, edges)
    opacity = weights.sum(-1)
    logits = layers.mlp(features.flatten(0, 1), network.color.weights, network.color.biases, row_bias)
    counted = weights * ((weights > STEP * opacity[:, None]) & (opacity > STEP)[:, None])
    seen = (counted[..., None] * torch.sigmoid(logits).view(*weights.shape, 3)).sum(-2)
    some = counted.sum(-1)[:, None]
    mean = torch.where(some > 0.0, seen / some.clamp_min(1e-9), sky)
    color = opacity[:, None] * mean + (1.0 - opacity)[:, None] * sky
    depth = (weights * middles).sum(-1) + (1.0 - opacity).clamp_min(0.0) * network.spacing.far
    return color, depth, opacity


def _weigh(
    network: FieldParams, part: HashGridParams, rays: RayBundle, edges: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"], Float[Tensor, "rays samples features"]]:
    """Weights of the samples between edges, their distances, and what a part of the network gives there."""
    distances = network.spacing.s_to_t(edges)
    middles = 0.5 * (distances[:, 1:] + distances[:, :-1])
    points = rays.origins[:, None] + middles[..., None] * rays.directions[:, None]
    # Levels fade by standard deviation, and a disc's is half its radius.
    spreads = 0.5 * middles * rays.pixel_radii[:, None]
    cube, spread = contraction.contract_to_unit_cube(
        points.flatten(0, 1), spreads.flatten(), network.origin, network.half_extent
    )
    encoded = hash_grid.encode(
        cube, part.table, part.grid, spread, level_weights(part.grid.num_levels, part.active_levels)
    )
    features = layers.mlp(encoded, part.weights, part.biases, None).unflatten(0, middles.shape)
    density = torch.exp((features[..., 0] - DENSITY_SHIFT).clamp(max=DENSITY_LIMIT)) / network.half_extent
    if network.occupancy is not None:
        side = network.occupancy.shape[0]
        x, y, z = (cube * side).long().clamp(0, side - 1).unbind(-1)
        density = density * network.occupancy[x, y, z].view(middles.shape)
    return stopping_weights(density * distances.diff(dim=-1)), middles, features


def stopping_weights(thickness: Float[Tensor, "rays samples"]) -> Float[Tensor, "rays samples"]:
    """Weights of samples from their optical thickness; the first that less than STEP of the light reaches takes it all.

    >>> stopping_weights(torch.tensor([[0.0, 9.0, 0.0, 9.0]]))
    tensor([[0.0000e+00, 9.9988e-01, 1.2341e-04, 0.0000e+00]])
    """
    reaching = torch.exp(-(torch.cumsum(thickness, -1) - thickness))
    spent = reaching < STEP
    last = spent & (torch.cumsum(spent, -1) == 1)
    return torch.where(spent, reaching * last, reaching * -torch.expm1(-thickness))
