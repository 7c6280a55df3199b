"""Distortion and interlevel losses along rays."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation


def interlevel(
    fine_edges: Float[Tensor, "rays edges"],
    fine_weights: Float[Tensor, "rays bins"],
    proposal_edges: Float[Tensor, "rays proposal_edges"],
    proposal_weights: Float[Tensor, "rays proposal_bins"],
    backend: Backend = "auto",
) -> Float[Tensor, ""]:
    """Return how far a proposal histogram falls short of bounding the field's weights (mip-NeRF 360, eq. 13).

    Mean over rays. Gradients reach only the proposal's weights.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    tensors = (fine_edges.detach(), fine_weights.detach(), proposal_edges.detach(), proposal_weights)
    return find_implementation("ray_losses", backend, *tensors).interlevel(*tensors)


def distortion(
    edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"], backend: Backend = "auto"
) -> Float[Tensor, ""]:
    """Return the distortion of the weights along rays (mip-NeRF 360, eq. 15), in linear time; mean over rays.

    Gradients reach only the weights.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    return find_implementation("ray_losses", backend, edges, weights).distortion(edges.detach(), weights)
