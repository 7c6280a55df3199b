"""The network in plain PyTorch: any device, any floating type; the definition the other backends are held to."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def mlp(
    inputs: Float[Tensor, "points inputs"],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    row_bias: Float[Tensor, "rays hidden"] | None,
) -> Float[Tensor, "points outputs"]:
    """ReLU layers and a linear one; `row_bias` adds to the first before its ReLU, a row for each group of points."""
    values = inputs
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = torch.nn.functional.linear(values, weight, bias)
        if layer == 0 and row_bias is not None:
            samples = len(inputs) // max(len(row_bias), 1)
            values = (values.view(len(row_bias), samples, values.shape[-1]) + row_bias[:, None]).flatten(0, 1)
        if layer < len(weights) - 1:
            values = torch.relu(values)
    return values
