"""A small MLP over many points."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation


def mlp(
    inputs: Float[Tensor, "points inputs"],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    ray_bias: Float[Tensor, "rays hidden"] | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "points outputs"]:
    """Return outputs of an MLP with ReLU after every layer but the last; once differentiable in every tensor.

    `weights` are [outputs, inputs] and `biases` [outputs], layer by layer. `ray_bias` is added to the first layer's sum
    for all samples of a ray (points = rays x samples, samples of a ray adjacent). So per-ray inputs (direction,
    appearance code, exposure) are evaluated once per ray, not once per sample.

    Raises:
        BackendError: The requested backend cannot be used here.
        ValueError: The shapes do not match.
    """
    check_shapes(len(inputs), inputs.shape[1], weights, biases, ray_bias)
    tensors = (inputs, *weights, *biases) if ray_bias is None else (inputs, *weights, *biases, ray_bias)
    return find_implementation("mlp", backend, *tensors).mlp(inputs, weights, biases, ray_bias)


def check_shapes(
    points: int, width: int, weights: Sequence[Tensor], biases: Sequence[Tensor], ray_bias: Tensor | None
) -> None:
    """Check that the layers match each other, the input width and the number of points.

    Raises:
        ValueError: The shapes do not match.
    """
    if len(weights) < 2 or len(weights) != len(biases):
        raise ValueError(
            f"mlp: {len(weights)} weights and {len(biases)} biases; give the same number of each, at least two"
        )
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            shapes = f"{tuple(weight.shape)} with bias {tuple(bias.shape)}"
            raise ValueError(f"mlp: weight {layer} is {shapes}, but its input has width {width}")
        width = weight.shape[0]
    if ray_bias is not None:
        rays, hidden = ray_bias.shape
        if hidden != weights[0].shape[0] or (points % rays if rays else points):
            raise ValueError(
                f"mlp: ray_bias is {tuple(ray_bias.shape)} for {points} points and "
                f"{weights[0].shape[0]} hidden units; points must be rays x samples"
            )
