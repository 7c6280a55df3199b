"""Per-ray network inputs: backend choice."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose_for_gradient
from blocknerf.kernels.ray_encoding import torch_impl

EXPOSURE_FEATURES = 2 * torch_impl.EXPOSURE_LEVELS


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"],
    code: Float[Tensor, "rays codes"],
    exposure: Float[Tensor, "rays"],
    reference_exposure: float,
    backend: Backend = "auto",
) -> Float[Tensor, "rays row"]:
    """Return spherical harmonics of directions, appearance codes and encoded exposures, concatenated.

    Once differentiable in the codes. Directions and exposures that need a gradient use the PyTorch reference.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    if _choose(backend, directions, code, exposure) == "triton":
        from blocknerf.kernels.ray_encoding import triton_impl

        return triton_impl.encode_ray_inputs(directions, code, exposure, reference_exposure)
    encoded = torch_impl.encode_exposure(exposure, reference_exposure)
    return torch.cat([torch_impl.spherical_harmonics(directions), code, encoded], dim=-1)


def encode_directions(directions: Float[Tensor, "rays 3"], backend: Backend = "auto") -> Float[Tensor, "rays 16"]:
    """Return spherical harmonics of directions. Directions that need a gradient use the PyTorch reference.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    if _choose(backend, directions) == "triton":
        from blocknerf.kernels.ray_encoding import triton_impl

        return triton_impl.encode_directions(directions)
    return torch_impl.spherical_harmonics(directions)


def _choose(backend: Backend, directions: Tensor, *others: Tensor) -> str:
    constants = (directions, *others[1:])
    needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in constants)
    return choose_for_gradient("ray_encoding", backend, directions, *others, needs_gradient=needs_gradient)
