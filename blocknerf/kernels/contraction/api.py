"""Contraction into the unit cube, with the backend chosen."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose_fixed
from blocknerf.kernels.contraction import torch_impl


def contract_to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """World points and the radii of their cones, in the unit cube (mip-NeRF 360's contraction, L-infinity norm).

    The block's own cube, `half_extent` around `origin`, fills the middle half of each axis. Lengths across a ray
    that leaves it shrink by (2 - 1/n) / n, where n is the point's distance in half extents. Differentiable
    once in the points; footprints that need a gradient take the reference.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    widens = torch.is_grad_enabled() and footprints.requires_grad
    chosen = choose_fixed("contraction", backend, points, footprints, moves=widens)
    if chosen == "triton":
        from blocknerf.kernels.contraction import triton_impl

        return triton_impl.contract_to_unit_cube(points, footprints, origin, half_extent)
    if chosen == "numba":
        from blocknerf.kernels.contraction import numba_impl

        return numba_impl.contract_to_unit_cube(points, footprints, origin, half_extent)
    return torch_impl.contract_to_unit_cube(points, footprints, origin, half_extent)
