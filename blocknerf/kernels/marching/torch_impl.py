"""Ray marching in plain PyTorch, for any device and floating type. Tests hold the other backends to it.

It evaluates all samples and discards afterwards those that the fast backends skip.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.contraction import torch_impl as contraction
from blocknerf.kernels.marching.api import MIN_TRANSMITTANCE, FieldParams
from blocknerf.kernels.marching.footprints import raise_std
from blocknerf.kernels.mlp import torch_impl as layers
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling import torch_impl as pdf_sampling
from blocknerf.kernels.radiance import HashGridParams, trunc_exp_density
from blocknerf.kernels.radiance import torch_impl as radiance
from blocknerf.kernels.ray_samples import torch_impl as ray_samples
from blocknerf.kernels.volume_rendering import torch_impl as volume_rendering


def march(
    network: FieldParams, rays: RayBundle, ray_bias: Float[Tensor, "rays hidden"], sky: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Return color, depth and opacity."""
    uniform_edges = torch.linspace(0.0, 1.0, network.proposal_samples + 1, device=sky.device, dtype=sky.dtype)
    edges = uniform_edges.expand(len(rays), -1).contiguous()
    weights, _, _ = _evaluate(network, network.proposal, rays, edges)
    jitter = sky.new_full((len(rays),), 0.5)
    edges = pdf_sampling.sample_pdf(edges, weights, jitter, network.samples, HISTOGRAM_PADDING)
    weights, t_mids, features = _evaluate(network, network.field, rays, edges)
    opacity = weights.sum(-1)
    logits = layers.mlp(features.flatten(0, 1), network.color.weights, network.color.biases, ray_bias)
    visible = (weights > MIN_TRANSMITTANCE * opacity[:, None]) & (opacity > MIN_TRANSMITTANCE)[:, None]
    color_weights = weights * visible
    rgb = (color_weights[..., None] * torch.sigmoid(logits).view(*weights.shape, 3)).sum(-2)
    total_color_weight = color_weights.sum(-1)[:, None]
    mean_rgb = torch.where(total_color_weight > 0.0, rgb / total_color_weight.clamp_min(1e-9), sky)
    color = opacity[:, None] * mean_rgb + (1.0 - opacity)[:, None] * sky
    depth = (weights * t_mids).sum(-1) + (1.0 - opacity).clamp_min(0.0) * network.spacing.far
    return color, depth, opacity


def _evaluate(
    network: FieldParams, params: HashGridParams, rays: RayBundle, edges: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"], Float[Tensor, "rays samples features"]]:
    """Return weights of the samples between edges, their distances, and the network's outputs there."""
    t_edges, t_mids, points, radii = ray_samples.make_ray_samples(edges, rays, network.spacing)
    # Levels fade by standard deviation; that of a disc is half its radius.
    cube, std = contraction.contract_to_unit_cube(
        points.flatten(0, 1), 0.5 * radii.flatten(), network.origin, network.half_extent
    )
    if network.min_std is not None:
        std = raise_std(std, cube, network.min_std)
    features = radiance.grid_network(params, cube, std, None, "torch").unflatten(0, t_mids.shape)
    density = trunc_exp_density(features[..., 0], network.half_extent)
    if network.occupancy is not None:
        side = network.occupancy.shape[0]
        x, y, z = (cube * side).long().clamp(0, side - 1).unbind(-1)
        density = density * network.occupancy[x, y, z].view(t_mids.shape)
    return early_stop_weights(density, t_edges), t_mids, features


def early_stop_weights(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"]
) -> Float[Tensor, "rays samples"]:
    """Return weights of samples. The first sample with too little transmittance absorbs all of it.

    >>> early_stop_weights(torch.tensor([[0.0, 9.0, 0.0, 9.0]]), torch.arange(5.0)[None])
    tensor([[0.0000e+00, 9.9988e-01, 1.2341e-04, 0.0000e+00]])
    """
    weights, transmittance = volume_rendering.weights_from_density(density, distances)
    below_min = transmittance < MIN_TRANSMITTANCE
    last = below_min & (torch.cumsum(below_min, -1) == 1)
    return torch.where(below_min, transmittance * last, weights)
