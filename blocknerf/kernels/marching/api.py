"""Ray marching through a block's networks: backend choice."""

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
    ray_bias: Float[Tensor, "rays hidden"],
    sky: Float[Tensor, "rays 3"],
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Return color, depth and opacity of rays (NeRF, eq. 3), front to back and without gradients.

    `ray_bias` is added to the first layer of the color network for all samples of a ray. `sky` is the background color.
    Samples in empty cells have zero density. A ray ends when its transmittance is below MIN_TRANSMITTANCE. Samples with
    a weight below MIN_TRANSMITTANCE of the ray's opacity may take the mean color of the others.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    tensors = (rays.origins, rays.directions, rays.pixel_radii, ray_bias, sky, network.field.table)
    backend_name = choose(
        "marching", backend, *tensors, unfit=unfit(network.proposal) | unfit(network.field, network.color)
    )
    if backend_name == "triton":
        from blocknerf.kernels.marching import triton_impl

        return triton_impl.march(network, rays, ray_bias, sky)
    if backend_name == "numba":
        from blocknerf.kernels.marching import numba_impl

        return numba_impl.march(network, rays, ray_bias, sky)
    return torch_impl.march(network, rays, ray_bias, sky)
