"""Distortion and interlevel losses along rays: backend choice."""

from types import ModuleType

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.ray_losses import torch_impl


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
    return _backend(backend, *tensors).interlevel(*tensors)


def distortion(
    edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"], backend: Backend = "auto"
) -> Float[Tensor, ""]:
    """Return the distortion of the weights along rays (mip-NeRF 360, eq. 15), in linear time; mean over rays.

    Gradients reach only the weights.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    return _backend(backend, edges, weights).distortion(edges.detach(), weights)


def _backend(backend: Backend, *tensors: Tensor) -> ModuleType:
    chosen = choose("ray_losses", backend, *tensors)
    if chosen == "triton":
        from blocknerf.kernels.ray_losses import triton_impl

        return triton_impl
    if chosen == "numba":
        from blocknerf.kernels.ray_losses import numba_impl

        return numba_impl
    return torch_impl
