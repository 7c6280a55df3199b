"""Layout of a network's padded parameters and activations in flat buffers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import Tensor

from blocknerf.kernels.mlp.matmul import LANES

TILE = 64
"""Points per tile: their activations in all layers fit the L1 cache. A multiple of `matmul.ROWS`."""

INPUTS, OUTPUTS, PADDED_IN, PADDED_OUT, FORWARD, BACKWARD, BIAS, GRADIENT, ACTIVATION, NUM_COLUMNS = range(10)
"""Columns of `BufferLayout.layers`: widths, padded widths; then offsets of the transposed weight, the weight and the
bias in the parameters (the bias also in the gradients), of the weight's gradient, and of the inputs in the
activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLayout:
    """Sizes and offsets of each layer [layers, NUM_COLUMNS] and lengths of the buffers."""

    layers: np.ndarray
    parameters: int
    gradients: int
    activations: int
    max_width: int

    def pack(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> np.ndarray:
        """Return all parameters in one padded buffer: biases, each weight transposed and as is, last a row of zeros."""
        flat = np.zeros(self.parameters, np.float32)
        for info, weight, bias in zip(self.layers.tolist(), weights, biases, strict=True):
            inputs, outputs, padded_in, padded_out, forward, backward, first = info[: BIAS + 1]
            array = weight.detach().numpy()
            flat[first : first + outputs] = bias.detach().numpy()
            flat[forward : forward + inputs * padded_out].reshape(inputs, -1)[:, :outputs] = array.T
            flat[backward : backward + outputs * padded_in].reshape(outputs, -1)[:, :inputs] = array
        return flat

    def unpack(self, gradients: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the gradients of weights and biases from their buffer."""
        weights, biases = [], []
        for info in self.layers.tolist():
            first, start, rows, padded_in = info[BIAS], info[GRADIENT], info[PADDED_OUT], info[PADDED_IN]
            padded = gradients[start : start + rows * padded_in].reshape(rows, padded_in)
            weights.append(np.ascontiguousarray(padded[: info[OUTPUTS], : info[INPUTS]]))
            biases.append(gradients[first : first + info[OUTPUTS]].copy())
        return weights, biases


@cache
def buffer_layout(widths: tuple[int, ...]) -> BufferLayout:
    """Return the layout of a network with these widths, inputs first."""
    padded = [-(-width // LANES) * LANES for width in widths]
    layers = np.zeros((len(widths) - 1, NUM_COLUMNS), np.int64)
    parameters = gradients = sum(padded[1:])
    bias = activations = 0
    for layer, (inputs, outputs, padded_in, next_padded) in enumerate(
        zip(widths[:-1], widths[1:], padded[:-1], padded[1:], strict=True)
    ):
        backward = parameters + inputs * next_padded
        layers[layer] = (inputs, outputs, padded_in, next_padded, parameters, backward, bias, gradients, activations)
        parameters = backward + outputs * padded_in
        gradients += next_padded * padded_in
        bias += next_padded
        activations += TILE * padded_in
    return BufferLayout(
        layers=layers, parameters=parameters + max(padded), gradients=gradients,
        activations=activations + TILE * padded[-1], max_width=max(padded),
    )  # fmt: skip
