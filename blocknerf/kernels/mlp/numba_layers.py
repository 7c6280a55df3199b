"""Layers of a network for a tile of points, forward and backward, for all Numba kernels that run a network.

Parameters and activations are padded to whole vectors, in flat buffers. A table with a row per layer has the sizes and
offsets of its parts in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import no_type_check

import numpy as np
from numba import njit
from torch import Tensor

from blocknerf.kernels.mlp.numba_matmul import LANES, ROWS, matmul
from blocknerf.numba_config import FASTMATH

TILE = 64
"""Points per tile: their activations in all layers fit the L1 cache. A multiple of `numba_matmul.ROWS`."""

INPUTS, OUTPUTS, PADDED_IN, PADDED_OUT, FORWARD, BACKWARD, BIAS, GRADIENT, ACTIVATION, NUM_COLUMNS = range(10)
"""Columns of `BufferLayout.layers`: widths, padded widths; then offsets of the transposed weight, the weight and the
bias in the parameters (the bias also in the gradients), of the weight's gradient, and of the inputs in the
activations."""

NUM_CHUNKS = 16
"""Chunks that points are split into, whatever the number of threads. Their sums are added in order."""

INDEX_ZERO = np.int64(0)
"""Initial value of indices and counts: for a literal 0, Numba would compile the called function once more."""

_ZERO = np.float32(0.0)


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


@njit
@no_type_check
def run_layer(info, source, start, addend, addend_start, addend_row, parameters, workspace):
    """Return the sums of one layer, a view of `workspace`, for a tile of inputs from `source[start]` on.

    `addend` is added to the products, with row stride `addend_row`; zero repeats one row, such as the bias.
    """
    step, width = info[PADDED_IN], info[PADDED_OUT]
    target, forward, depth = info[ACTIVATION] + TILE * step, info[FORWARD], info[INPUTS]
    matmul(
        source, start, step, 1, parameters, forward, addend, addend_start, addend_row, workspace, target, TILE, width,
        depth,
    )  # fmt: skip
    return workspace[target : target + TILE * width]


@njit(fastmath=FASTMATH)
@no_type_check
def relu_(values):
    """Replace negative values by zero, in place."""
    for index in range(values.shape[0]):
        value = values[index]
        # This form keeps NaN.
        values[index] = _ZERO if value < _ZERO else value


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def run_layers(layers, source, start, first, count, ray_bias, samples, parameters, num_layers, workspace):
    """Run a tile of inputs from `source[start]` on through the first `num_layers` layers, with outputs in `workspace`.

    `ray_bias` is added to the first layer's sums, one row per `samples` points; the tile starts at point `first`.
    Return the offset of the last output in `workspace`.
    """
    for layer in range(num_layers):
        info = layers[layer]
        if layer:
            sums = run_layer(info, workspace, info[ACTIVATION], parameters, info[BIAS], 0, parameters, workspace)
        else:
            sums = run_layer(info, source, start, parameters, info[BIAS], 0, parameters, workspace)
            if samples:
                add_ray_bias(sums.reshape(TILE, info[PADDED_OUT]), ray_bias, samples, first, count)
        if layer < layers.shape[0] - 1:
            relu_(sums)
    return layers[num_layers - 1, ACTIVATION] + TILE * layers[num_layers - 1, PADDED_IN]


@njit(inline="always")
@no_type_check
def chunk_bounds(chunk, points, rays):
    """Return the first and last point of a chunk, which does not split rays, and the samples per ray."""
    samples = points // rays if rays else 0
    unit = samples if samples else TILE
    units = (points + unit - 1) // unit
    first, last = chunk * units // NUM_CHUNKS * unit, (chunk + 1) * units // NUM_CHUNKS * unit
    return first, min(last, points), samples


# LLVM vectorizes a loop only if it sees that indices start at zero and bounds are constant. Hence the views, and the
# bounds read into names before each loop.


@njit(error_model="numpy")
@no_type_check
def add_ray_bias(sums, ray_bias, samples, start, count):
    first = 0
    while first < count:
        ray = (start + first) // samples
        last = min(count, (ray + 1) * samples - start)
        row, part = ray_bias[ray], sums[first:last]
        for point in range(last - first):
            for output in range(row.shape[0]):
                part[point, output] += row[output]
        first = last


@njit
@no_type_check
def zero_(values):
    for index in range(values.shape[0]):
        values[index] = _ZERO


@njit
@no_type_check
def copy_in(flat, start, count, columns, workspace, width):
    """Copy a tile's rows into padded rows. Padding and missing rows become zero."""
    target, source = workspace[: TILE * width], flat[start * columns : (start + count) * columns]
    if count < TILE or columns < width:
        zero_(target)
    if columns == width:
        for index in range(source.shape[0]):  # a slice assignment would first copy the source
            target[index] = source[index]
    else:
        padded, rows = target.reshape(TILE, width), source.reshape(count, columns)
        for point in range(count):
            for column in range(columns):
                padded[point, column] = rows[point, column]


@njit
@no_type_check
def copy_out(source, target):
    for point in range(target.shape[0]):
        for column in range(target.shape[1]):
            target[point, column] = source[point, column]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def backward_tile(
    layers, source, start, first, count, samples, parameters, workspace, grad_out, grad_in, grads, ray_grads,
    need_weights, need_inputs,
):  # fmt: skip
    """Backpropagate a tile's output gradients `grad_out`. Return the buffer with the input gradients, then the other.

    `source`, `start`, `first`, `count`, `samples`, `workspace` are as in `run_layers`. Parameter gradients are added to
    `grads` if `need_weights`, ray bias gradients to `ray_grads`. Input gradients are computed if `need_inputs`.
    """
    for layer in range(layers.shape[0] - 1, -1, -1):
        info = layers[layer]
        if need_weights and layer:
            grad_weights(info, grad_out, workspace, info[ACTIVATION], grads)
        elif need_weights:
            grad_weights(info, grad_out, source, start, grads)
        if layer == 0 and samples:
            grad_ray_bias(grad_out, info[PADDED_OUT], samples, first, count, ray_grads)
        if layer > 0 or need_inputs:
            grad_inputs(info, parameters, grad_out, grad_in)
            if layer > 0:
                relu_backward_(grad_in, workspace[info[ACTIVATION] :], TILE * info[PADDED_IN])
            grad_out, grad_in = grad_in, grad_out
    return grad_out, grad_in


@njit(fastmath=FASTMATH)
@no_type_check
def grad_weights(info, grad_out, source, start, grads):
    """Add a tile's weight and bias gradients of a layer with inputs from `source[start]` on."""
    width, target, columns = info[PADDED_OUT], info[GRADIENT], info[PADDED_IN]
    rows = (info[OUTPUTS] + ROWS - 1) // ROWS * ROWS
    matmul(grad_out, 0, 1, width, source, start, grads, target, columns, grads, target, rows, columns, TILE)
    grad_bias(grad_out, width, grads[info[BIAS] : info[BIAS] + width])


@njit(fastmath=FASTMATH)
@no_type_check
def grad_bias(grad_out, width, bias):
    groups = grad_out[: TILE * width].reshape(TILE // 4, 4 * width)
    for group in range(TILE // 4):
        a, b = groups[group, :width], groups[group, width : 2 * width]
        c, d = groups[group, 2 * width : 3 * width], groups[group, 3 * width :]
        for output in range(width):
            bias[output] += (a[output] + b[output]) + (c[output] + d[output])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def grad_ray_bias(grad_out, width, samples, start, count, out):
    gradients = grad_out[: TILE * width].reshape(TILE, width)
    first = 0
    while first < count:
        ray = (start + first) // samples
        last = min(count, (ray + 1) * samples - start)
        row, part = out[ray], gradients[first:last]
        for point in range(last - first):
            for output in range(row.shape[0]):
                row[output] += part[point, output]
        first = last


@njit(fastmath=FASTMATH)
@no_type_check
def grad_inputs(info, parameters, grad_out, grad_in):
    width, step, backward, depth = info[PADDED_IN], info[PADDED_OUT], info[BACKWARD], info[OUTPUTS]
    zeros = parameters.shape[0] - width
    matmul(grad_out, 0, step, 1, parameters, backward, parameters, zeros, 0, grad_in, 0, TILE, width, depth)


@njit(fastmath=FASTMATH)
@no_type_check
def relu_backward_(gradients, values, count):
    """Zero the gradients where the ReLU output is zero."""
    for index in range(count):
        gradients[index] = _ZERO if values[index] <= _ZERO else gradients[index]
