"""Rays followed through a block's networks to colors, with the backend chosen."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.marching import torch_impl
from blocknerf.kernels.marching.params import FieldParams
from blocknerf.kernels.radiance import unfit


def march(
    network: FieldParams,
    rays: RayBundle,
    row_bias: Float[Tensor, "rays hidden"],
    sky: Float[Tensor, "rays 3"],
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Color, depth and opacity along rays (NeRF, eq. 3), front to back and without gradients.

    `row_bias` is added to the first layer of the color network for all samples of a ray, `sky` is what lies behind.
    Samples in empty cells count as clear, a ray ends where less than STEP of its light is left, and samples of less
    than STEP of its opacity may take the mean color of the others.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    tensors = (rays.origins, rays.directions, rays.pixel_radii, row_bias, sky, network.field.table)
    chosen = choose("marching", backend, *tensors, unfit=unfit(network.proposal) | unfit(network.field, network.color))
    if chosen == "triton":
        from blocknerf.kernels.marching import triton_impl

        return triton_impl.march(network, rays, row_bias, sky)
    if chosen == "numba":
        from blocknerf.kernels.marching import numba_impl

        return numba_impl.march(network, rays, row_bias, sky)
    return torch_impl.march(network, rays, row_bias, sky)
