"""Contraction into the unit cube."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation


def contract_to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """Return world points and their cone radii in the unit cube (mip-NeRF 360's contraction, L-infinity norm).

    The block's cube, `half_extent` around `origin`, fills the middle half of each axis. Outside it, lengths across a
    ray shrink by (2 - 1/n) / n, where n is the point's distance in half extents. Once differentiable in the points.
    Footprints that need a gradient use the PyTorch reference.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    implementation = find_implementation("contraction", backend, points, constants=(footprints,))
    return implementation.contract_to_unit_cube(points, footprints, origin, half_extent)
