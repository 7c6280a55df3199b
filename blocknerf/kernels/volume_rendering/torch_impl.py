"""Volume rendering in plain PyTorch, for any device and floating type. Tests hold the other backends to it."""

import torch
from jaxtyping import Float
from torch import Tensor


def weights_from_density(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"]]:
    """Return weights, and the detached transmittance."""
    thickness = density * (distances[:, 1:] - distances[:, :-1])
    total = torch.cumsum(thickness, dim=-1)
    transmittance = torch.exp(-(total - thickness))
    return transmittance * -torch.expm1(-thickness), transmittance.detach()


def composite(
    weights: Float[Tensor, "rays samples"], colors: Float[Tensor, "rays samples 3"], sky: Float[Tensor, "rays 3"]
) -> Float[Tensor, "rays 3"]:
    """Return the weighted sum of colors plus the remaining sky."""
    return (weights[..., None] * colors).sum(-2) + (1.0 - weights.sum(-1))[:, None] * sky
