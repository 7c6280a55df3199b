"""Backward pass of layers for a tile of points, for Numba."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.mlp.buffer_layout import (
    ACTIVATION,
    BACKWARD,
    BIAS,
    GRADIENT,
    OUTPUTS,
    PADDED_IN,
    PADDED_OUT,
    TILE,
)
from blocknerf.kernels.mlp.matmul import ROWS, matmul
from blocknerf.numba_config import FASTMATH

_ZERO = np.float32(0.0)


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
