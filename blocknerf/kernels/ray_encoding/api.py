"""Per-ray network inputs."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"],
    code: Float[Tensor, "rays codes"],
    backend: Backend = "auto",
) -> Float[Tensor, "rays row"]:
    """Return spherical harmonics of directions and appearance codes, concatenated.

    Once differentiable in the codes. Directions that need a gradient use the PyTorch reference.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    implementation = find_implementation("ray_encoding", backend, code, constants=(directions,))
    return implementation.encode_ray_inputs(directions, code)


def encode_directions(directions: Float[Tensor, "rays 3"], backend: Backend = "auto") -> Float[Tensor, "rays 16"]:
    """Return spherical harmonics of directions. Directions that need a gradient use the PyTorch reference.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    return find_implementation("ray_encoding", backend, constants=(directions,)).encode_directions(directions)
