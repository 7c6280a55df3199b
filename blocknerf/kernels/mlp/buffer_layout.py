"""Where the padded parameters and activations of a network lie in flat buffers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import Tensor

from blocknerf.kernels.mlp.matmul import LANES

TILE = 64
"""Points handled at once: their activations in every layer fit the L1 cache. A multiple of the product's rows."""

INPUTS, OUTPUTS, INPUT_ROOM, OUTPUT_ROOM, FORWARD, BACKWARD, BIAS, GRADIENT, ACTIVATION, FACTS = range(10)
"""Columns of `Layout.layers`: widths, padded widths, then the places of the transposed weight, the weight and the bias
among the parameters (the bias also among the gradients), of the weight's gradient, and of the inputs' activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Facts of each layer [layers, FACTS] and lengths of the buffers."""

    layers: np.ndarray
    parameters: int
    gradients: int
    activations: int
    widest: int

    def pack(self, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> np.ndarray:
        """All parameters in one buffer: biases, each weight transposed and as it is, padded; last a row of zeros."""
        flat = np.zeros(self.parameters, np.float32)
        for facts, weight, bias in zip(self.layers.tolist(), weights, biases, strict=True):
            inputs, outputs, input_room, output_room, forward, backward, first = facts[: BIAS + 1]
            array = weight.detach().numpy()
            flat[first : first + outputs] = bias.detach().numpy()
            flat[forward : forward + inputs * output_room].reshape(inputs, -1)[:, :outputs] = array.T
            flat[backward : backward + outputs * input_room].reshape(outputs, -1)[:, :inputs] = array
        return flat

    def unpack(self, gradients: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The gradients of the weights and of the biases, from their buffer."""
        weights, biases = [], []
        for facts in self.layers.tolist():
            first, start, rows, room = facts[BIAS], facts[GRADIENT], facts[OUTPUT_ROOM], facts[INPUT_ROOM]
            padded = gradients[start : start + rows * room].reshape(rows, room)
            weights.append(np.ascontiguousarray(padded[: facts[OUTPUTS], : facts[INPUTS]]))
            biases.append(gradients[first : first + facts[OUTPUTS]].copy())
        return weights, biases


@cache
def layout(widths: tuple[int, ...]) -> Layout:
    """The layout of a network with these widths, inputs first."""
    rooms = [-(-width // LANES) * LANES for width in widths]
    layers = np.zeros((len(widths) - 1, FACTS), np.int64)
    parameters = gradients = sum(rooms[1:])
    bias = activations = 0
    for layer, (inputs, outputs, room, next_room) in enumerate(
        zip(widths[:-1], widths[1:], rooms[:-1], rooms[1:], strict=True)
    ):
        backward = parameters + inputs * next_room
        layers[layer] = (inputs, outputs, room, next_room, parameters, backward, bias, gradients, activations)
        parameters = backward + outputs * room
        gradients += next_room * room
        bias += next_room
        activations += TILE * room
    return Layout(
        layers=layers,
        parameters=parameters + max(rooms),
        gradients=gradients,
        activations=activations + TILE * rooms[-1],
        widest=max(rooms),
    )
