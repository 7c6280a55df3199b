"""Contraction into the unit cube: backend choice."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose_for_gradient
from blocknerf.kernels.contraction import torch_impl


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
    footprints_need_grad = torch.is_grad_enabled() and footprints.requires_grad
    backend_name = choose_for_gradient("contraction", backend, points, footprints, needs_gradient=footprints_need_grad)
    if backend_name == "triton":
        from blocknerf.kernels.contraction import triton_impl

        return triton_impl.contract_to_unit_cube(points, footprints, origin, half_extent)
    if backend_name == "numba":
        from blocknerf.kernels.contraction import numba_impl

        return numba_impl.contract_to_unit_cube(points, footprints, origin, half_extent)
    return torch_impl.contract_to_unit_cube(points, footprints, origin, half_extent)
