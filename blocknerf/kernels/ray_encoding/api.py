"""Per-ray network inputs."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation


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
    implementation = find_implementation("ray_encoding", backend, code, constants=(directions, exposure))
    return implementation.encode_ray_inputs(directions, code, exposure, reference_exposure)


def encode_directions(directions: Float[Tensor, "rays 3"], backend: Backend = "auto") -> Float[Tensor, "rays 16"]:
    """Return spherical harmonics of directions. Directions that need a gradient use the PyTorch reference.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    return find_implementation("ray_encoding", backend, constants=(directions,)).encode_directions(directions)
