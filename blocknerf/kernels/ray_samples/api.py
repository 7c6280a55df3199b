"""Normalized positions along rays to world points: backend choice."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.backends import Backend, choose_for_gradient
from blocknerf.kernels.ray_samples import torch_impl


class RaySamples(NamedTuple):
    """Sample intervals along rays, and their midpoints."""

    s_edges: Float[Tensor, "rays edges"]
    """Normalized positions in [0, 1]."""
    t_edges: Float[Tensor, "rays edges"]
    """The same edges as distances from the ray's origin, in world units."""
    t_mids: Float[Tensor, "rays samples"]
    """Distances of the interval midpoints."""
    points: Float[Tensor, "rays samples 3"]
    radii: Float[Tensor, "rays samples"]
    """Radius of the pixel's cone at each point, in world units."""


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing, backend: Backend = "auto"
) -> RaySamples:
    """Return the samples between edges at normalized positions.

    Rays that need a gradient use the PyTorch reference. The edges have no gradient.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    ray_tensors = (rays.origins, rays.directions, rays.pixel_radii)
    needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in ray_tensors)
    backend_name = choose_for_gradient("ray_samples", backend, edges, *ray_tensors, needs_gradient=needs_gradient)
    if backend_name == "triton":
        from blocknerf.kernels.ray_samples import triton_impl

        return RaySamples(edges, *triton_impl.make_ray_samples(edges.detach(), rays.detach(), spacing))
    if backend_name == "numba":
        from blocknerf.kernels.ray_samples import numba_impl

        return RaySamples(edges, *numba_impl.make_ray_samples(edges.detach(), rays.detach(), spacing))
    return RaySamples(edges, *torch_impl.make_ray_samples(edges, rays, spacing))
