"""The row of numbers that networks are given for each ray, with the backend chosen."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose_fixed
from blocknerf.kernels.conditions import reference

EXPOSURE_FEATURES = 2 * reference.EXPOSURE_LEVELS


def encode_rays(
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
    if _choose(backend, directions, code, exposure) == "fused":
        from blocknerf.kernels.conditions import fused

        return fused.encode_rays(directions, code, exposure, exposure_reference)
    encoded = reference.encode_exposure(exposure, exposure_reference)
    return torch.cat([reference.spherical_harmonics(directions), code, encoded], dim=-1)


def encode_directions(directions: Float[Tensor, "rays 3"], backend: Backend = "auto") -> Float[Tensor, "rays 16"]:
    """Spherical harmonics of directions alone; those that need a gradient take the reference.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    if _choose(backend, directions) == "fused":
        from blocknerf.kernels.conditions import fused

        return fused.encode_directions(directions)
    return reference.spherical_harmonics(directions)


def _choose(backend: Backend, directions: Tensor, *more: Tensor) -> str:
    fixed = (directions, *more[1:])
    moves = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in fixed)
    return choose_fixed("conditions", backend, directions, *more, moves=moves)
