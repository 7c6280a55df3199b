"""Intervals along rays in plain PyTorch: differentiable in the rays, any device and floating type."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.ray_spacing import RaySpacing


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing
) -> tuple[
    Float[Tensor, "rays edges"],
    Float[Tensor, "rays samples"],
    Float[Tensor, "rays samples 3"],
    Float[Tensor, "rays samples"],
]:
    """Distances of edges and of the middles between them; the middle points, and the radii of the cones there."""
    distances = spacing.s_to_t(edges)
    middles = 0.5 * (distances[:, 1:] + distances[:, :-1])
    points = rays.origins[:, None] + middles[..., None] * rays.directions[:, None]
    return distances, middles, points, middles * rays.pixel_radii[:, None]
