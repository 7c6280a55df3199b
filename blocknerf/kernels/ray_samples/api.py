"""From normalized positions along rays to points of the world, with the backend chosen."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.backends import Backend, choose_fixed
from blocknerf.kernels.ray_samples import torch_impl
from blocknerf.ray_spacing import RaySpacing


class RaySamples(NamedTuple):
    """Intervals along rays, and their middle points."""

    s_edges: Float[Tensor, "rays edges"]
    """Normalized positions in [0, 1]."""
    t_edges: Float[Tensor, "rays edges"]
    """The same edges as distances from the ray's origin, in world units."""
    t_mids: Float[Tensor, "rays samples"]
    """Distances of the interval middles."""
    points: Float[Tensor, "rays samples 3"]
    radii: Float[Tensor, "rays samples"]
    """Radius of the pixel's cone at each point, in world units."""


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing, backend: Backend = "auto"
) -> RaySamples:
    """The samples between edges at normalized positions.

    Differentiable in the rays by the reference, which those that need a gradient take; not in the edges.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    given = (rays.origins, rays.directions, rays.pixel_radii)
    moves = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    chosen = choose_fixed("ray_samples", backend, edges, *given, moves=moves)
    if chosen == "triton":
        from blocknerf.kernels.ray_samples import triton_impl

        return RaySamples(edges, *triton_impl.make_ray_samples(edges.detach(), rays.detach(), spacing))
    if chosen == "numba":
        from blocknerf.kernels.ray_samples import numba_impl

        return RaySamples(edges, *numba_impl.make_ray_samples(edges.detach(), rays.detach(), spacing))
    return RaySamples(edges, *torch_impl.make_ray_samples(edges, rays, spacing))
