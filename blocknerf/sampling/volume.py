"""Volume rendering's quadrature: from densities along a ray to the weight of each sample."""

import torch
from jaxtyping import Float
from torch import Tensor


def weights_from_density(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"]]:
    """Weights of samples, and the transmittance up to each (Max 1995; NeRF, eq. 3).

    `density` is per world unit, `distances` are the interval edges, one more than samples.

    >>> weights, transmittance = weights_from_density(torch.tensor([[0.0, 1e9]]), torch.tensor([[0.0, 1.0, 2.0]]))
    >>> weights, transmittance
    (tensor([[0., 1.]]), tensor([[1., 1.]]))
    """
    thickness = density * (distances[:, 1:] - distances[:, :-1])
    total = torch.cumsum(thickness, dim=-1)
    transmittance = torch.exp(-(total - thickness))
    return transmittance * -torch.expm1(-thickness), transmittance
