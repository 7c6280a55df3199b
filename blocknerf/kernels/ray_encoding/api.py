"""The row of numbers that networks are given for each ray, with the backend chosen."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose_fixed
from blocknerf.kernels.ray_encoding import torch_impl

EXPOSURE_FEATURES = 2 * torch_impl.EXPOSURE_LEVELS


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"],
    code: Float[Tensor, "rays codes"],
    exposure: Float[Tensor, "rays"],
    exposure_reference: float,
    backend: Backend = "auto",
) -> Float[Tensor, "rays row"]:
    """Spherical harmonics of directions, appearance codes, and encoded exposures, side by side.

    Differentiable once in the codes; directions and exposures that need a gradient take the reference.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    if _choose(backend, directions, code, exposure) == "triton":
        from blocknerf.kernels.ray_encoding import triton_impl

        return triton_impl.encode_ray_inputs(directions, code, exposure, exposure_reference)
    encoded = torch_impl.encode_exposure(exposure, exposure_reference)
    return torch.cat([torch_impl.spherical_harmonics(directions), code, encoded], dim=-1)


def encode_directions(directions: Float[Tensor, "rays 3"], backend: Backend = "auto") -> Float[Tensor, "rays 16"]:
    """Spherical harmonics of directions alone; those that need a gradient take the reference.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    if _choose(backend, directions) == "triton":
        from blocknerf.kernels.ray_encoding import triton_impl

        return triton_impl.encode_directions(directions)
    return torch_impl.spherical_harmonics(directions)


def _choose(backend: Backend, directions: Tensor, *more: Tensor) -> str:
    fixed = (directions, *more[1:])
    moves = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in fixed)
    return choose_fixed("ray_encoding", backend, directions, *more, moves=moves)
