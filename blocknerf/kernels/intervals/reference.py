"""Intervals along rays in plain PyTorch: differentiable in the rays, any device and floating type."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.spacing import Spacing


def place_intervals(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: Spacing
) -> tuple[
    Float[Tensor, "rays edges"],
    Float[Tensor, "rays samples"],
    Float[Tensor, "rays samples 3"],
    Float[Tensor, "rays samples"],
]:
    """Distances of edges and of the middles between them; the middle points, and the radii of the cones there."""
    distances = spacing.distance(edges)
    middles = 0.5 * (distances[:, 1:] + distances[:, :-1])
    points = rays.origins[:, None] + middles[..., None] * rays.directions[:, None]
    return distances, middles, points, middles * rays.radii[:, None]
