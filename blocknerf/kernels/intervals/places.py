"""From normalized positions along rays to points of the world, with the backend chosen."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.backends import Backend, choose_fixed
from blocknerf.kernels.intervals import reference
from blocknerf.spacing import Spacing


class RaySamples(NamedTuple):
    """Intervals along rays, and their middle points."""

    edges: Float[Tensor, "rays edges"]
    """Normalized positions in [0, 1]."""
    distances: Float[Tensor, "rays edges"]
    """The same edges as distances from the ray's origin, in world units."""
    middles: Float[Tensor, "rays samples"]
    """Distances of the interval middles."""
    points: Float[Tensor, "rays samples 3"]
    footprints: Float[Tensor, "rays samples"]
    """Radius of the pixel's cone at each point, in world units."""


def place_intervals(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: Spacing, backend: Backend = "auto"
) -> RaySamples:
    """The samples between edges at normalized positions.

    Differentiable in the rays by the reference, which those that need a gradient take; not in the edges.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    given = (rays.origins, rays.directions, rays.radii)
    moves = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    chosen = choose_fixed("intervals", backend, edges, *given, moves=moves)
    if chosen == "fused":
        from blocknerf.kernels.intervals import fused

        return RaySamples(edges, *fused.place_intervals(edges.detach(), rays.detach(), spacing))
    if chosen == "native":
        from blocknerf.kernels.intervals import native

        return RaySamples(edges, *native.place_intervals(edges.detach(), rays.detach(), spacing))
    return RaySamples(edges, *reference.place_intervals(edges, rays, spacing))
