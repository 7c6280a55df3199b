"""Ray samples in plain PyTorch, differentiable in the rays, for any device and floating type."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing
) -> tuple[
    Float[Tensor, "rays edges"],
    Float[Tensor, "rays samples"],
    Float[Tensor, "rays samples 3"],
    Float[Tensor, "rays samples"],
]:
    """Return distances of edges and midpoints, the midpoints in the world, and the cone radii there."""
    t_edges = spacing.s_to_t(edges)
    t_mids = 0.5 * (t_edges[:, 1:] + t_edges[:, :-1])
    points = rays.origins[:, None] + t_mids[..., None] * rays.directions[:, None]
    return t_edges, t_mids, points, t_mids * rays.pixel_radii[:, None]
