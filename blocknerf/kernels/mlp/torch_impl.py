"""MLP in plain PyTorch, for any device and floating type. Tests hold the other backends to it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def mlp(
    inputs: Float[Tensor, "points inputs"],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    ray_bias: Float[Tensor, "rays hidden"] | None,
) -> Float[Tensor, "points outputs"]:
    """ReLU layers and a linear one. `ray_bias` is added before the first ReLU, one row per group of points."""
    values = inputs
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = torch.nn.functional.linear(values, weight, bias)
        if layer == 0 and ray_bias is not None:
            samples = len(inputs) // max(len(ray_bias), 1)
            values = (values.view(len(ray_bias), samples, values.shape[-1]) + ray_bias[:, None]).flatten(0, 1)
        if layer < len(weights) - 1:
            values = torch.relu(values)
    return values
