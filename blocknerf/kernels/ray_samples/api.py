"""Normalized positions along rays to world points."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.backends import Backend, find_implementation


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
    constants = (rays.origins, rays.directions, rays.pixel_radii)
    implementation = find_implementation("ray_samples", backend, edges, constants=constants)
    return RaySamples(edges, *implementation.make_ray_samples(edges, rays, spacing))
