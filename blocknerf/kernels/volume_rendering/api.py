"""Volume rendering weights and compositing."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation


def weights_from_density(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"], backend: Backend = "auto"
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"]]:
    """Return the weights of samples and the transmittance up to each (Max 1995; NeRF, eq. 3).

    `density` is per world unit; `distances` are the interval edges, one more than samples. The weights are
    differentiable in the density. The transmittance has no gradient.

    Raises:
        BackendError: The requested backend cannot be used here.

    >>> from torch import tensor
    >>> weights, transmittance = weights_from_density(tensor([[0.0, 1e9]]), tensor([[0.0, 1.0, 2.0]]))
    >>> weights, transmittance
    (tensor([[0., 1.]]), tensor([[1., 1.]]))
    """
    implementation = find_implementation("volume_rendering", backend, density, distances)
    return implementation.weights_from_density(density, distances)


def composite(
    weights: Float[Tensor, "rays samples"],
    colors: Float[Tensor, "rays samples 3"],
    sky: Float[Tensor, "rays 3"],
    backend: Backend = "auto",
) -> Float[Tensor, "rays 3"]:
    """Return the weighted sum of sample colors plus the remaining transmittance times the sky; differentiable in all.

    Raises:
        BackendError: The requested backend cannot be used here.

    >>> from torch import tensor
    >>> composite(tensor([[0.25]]), tensor([[[1.0, 0.0, 0.0]]]), tensor([[0.0, 0.0, 1.0]]))
    tensor([[0.2500, 0.0000, 0.7500]])
    """
    implementation = find_implementation("volume_rendering", backend, weights, colors, sky)
    return implementation.composite(weights, colors, sky)
