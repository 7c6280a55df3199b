"""A small fully connected network over many points, with the backend chosen and the input checked."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.mlp import torch_impl


def mlp(
    inputs: Float[Tensor, "points inputs"],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    row_bias: Float[Tensor, "rays hidden"] | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "points outputs"]:
    """Outputs of a network with ReLU after every layer but the last; differentiable once in every tensor.

    `weights` are [outputs, inputs] and `biases` [outputs], layer by layer. `row_bias` is added to the first layer's sum
    and shared by consecutive groups of points (points = rays x samples, samples of a ray adjacent), so that what
    belongs to a ray - direction, appearance code, exposure - costs once a ray and not once a sample.

    Raises:
        BackendError: the backend asked for cannot be used here.
        ValueError: the shapes do not fit each other.
    """
    check_shapes(len(inputs), inputs.shape[1], weights, biases, row_bias)
    tensors = (inputs, *weights, *biases) if row_bias is None else (inputs, *weights, *biases, row_bias)
    if choose("mlp", backend, *tensors) == "numba":
        from blocknerf.kernels.mlp import numba_impl

        return numba_impl.mlp(inputs, weights, biases, row_bias)
    return torch_impl.mlp(inputs, weights, biases, row_bias)


def check_shapes(
    points: int, width: int, weights: Sequence[Tensor], biases: Sequence[Tensor], row_bias: Tensor | None
) -> None:
    """Refuse a network whose layers do not fit each other, its inputs' width or the number of points.

    Raises:
        ValueError: they do not.
    """
    if len(weights) < 2 or len(weights) != len(biases):
        raise ValueError(f"mlp: {len(weights)} weights and {len(biases)} biases; give as many of each, at least two")
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            shapes = f"{tuple(weight.shape)} with bias {tuple(bias.shape)}"
            raise ValueError(f"mlp: weight {layer} is {shapes}, its input has {width} numbers")
        width = weight.shape[0]
    if row_bias is not None:
        rows, hidden = row_bias.shape
        if hidden != weights[0].shape[0] or (points % rows if rows else points):
            raise ValueError(
                f"mlp: row_bias is {tuple(row_bias.shape)} for {points} points and "
                f"{weights[0].shape[0]} hidden numbers; points must be rows x samples"
            )
