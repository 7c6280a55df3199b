"""The network in Numba for the processor, float32.

A tile of points goes through all layers while its activations are in the cache. Backward computes them again rather
than reading them from memory. Points are cut into CHUNKS parts, whatever the number of threads; each sums its own
parameter gradients, and those are added in order, so the result does not depend on the threads.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.compilation import FASTMATH
from blocknerf.kernels.mlp.layout import (
    ACTIVATION,
    BACKWARD,
    BIAS,
    GRADIENT,
    INPUT_ROOM,
    INPUTS,
    OUTPUT_ROOM,
    OUTPUTS,
    TILE,
    layout,
)
from blocknerf.kernels.mlp.products import ROWS, aligned, product
from blocknerf.kernels.mlp.tile import rectify, run_layer
from blocknerf.kernels.threads import enter_numba

CHUNKS = 16

_ZERO = np.float32(0.0)


def mlp(
    inputs: Float[Tensor, "points inputs"],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    row_bias: Float[Tensor, "rays hidden"] | None,
) -> Float[Tensor, "points outputs"]:
    """What `reference.mlp` gives, by compiled loops."""
    rows = inputs.new_empty(0, weights[0].shape[0]) if row_bias is None else row_bias.contiguous()
    return _Mlp.apply(inputs.contiguous(), rows, len(weights), *weights, *biases)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, rows: Tensor, count: int, *parameters: Tensor) -> Tensor:
        enter_numba()
        plan = layout((inputs.shape[1], *(weight.shape[0] for weight in parameters[:count])))
        packed = plan.pack(parameters[:count], parameters[count:])
        out = inputs.new_empty(len(inputs), parameters[count - 1].shape[0])
        _forward(inputs.detach().numpy(), rows.detach().numpy(), packed, plan.layers, plan.activations, out.numpy())
        ctx.save_for_backward(inputs, rows)
        ctx.plan, ctx.packed = plan, packed
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        enter_numba()
        inputs, rows = ctx.saved_tensors
        plan = ctx.plan
        to_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else inputs.new_empty(0, inputs.shape[1])
        to_rows = torch.empty_like(rows)
        learns = any(ctx.needs_input_grad[3:])  # not where a code is fitted to frozen weights
        sums = np.empty((CHUNKS, plan.gradients), np.float32)
        _backward(
            inputs.detach().numpy(), rows.detach().numpy(), ctx.packed, plan.layers, plan.activations, plan.widest,
            gradients.contiguous().numpy(), to_inputs.numpy(), to_rows.numpy(), sums, learns,
        )  # fmt: skip
        parameters: list[Tensor | None] = [None] * (2 * len(plan.layers))
        if learns:
            weights, biases = plan.unpack(sums.sum(0))
            parameters = [torch.from_numpy(array) for array in (*weights, *biases)]
        row_gradients = to_rows if ctx.needs_input_grad[1] else None
        return to_inputs if ctx.needs_input_grad[0] else None, row_gradients, None, *parameters


# The bodies of parallel loops are functions of their own: Numba compiles what stands in such a loop several times over.


@njit(parallel=True, cache=True)
@no_type_check
def _forward(inputs, rows, parameters, layers, activations, out):
    for chunk in prange(CHUNKS):
        _forward_part(chunk, inputs, rows, parameters, layers, activations, out)


@njit(parallel=True, cache=True)
@no_type_check
def _backward(inputs, rows, parameters, layers, activations, widest, gradients, to_inputs, to_rows, sums, learns):
    for chunk in prange(CHUNKS):
        own = sums[chunk]
        _backward_part(
            chunk, inputs, rows, parameters, layers, activations, widest, gradients, to_inputs, to_rows, own, learns
        )


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _forward_part(chunk, inputs, rows, parameters, layers, activations, out):
    flat, room = inputs.reshape(-1), aligned(activations)
    first, last, samples = _part(chunk, inputs.shape[0], rows.shape[0])
    width = layers[-1, OUTPUT_ROOM]
    final = room[activations - TILE * width :].reshape(TILE, width)
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        _activate(flat, start, count, rows, samples, parameters, layers, layers.shape[0], room)
        _copy_out(final, out[start : start + count])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _backward_part(
    chunk, inputs, rows, parameters, layers, activations, widest, gradients, to_inputs, to_rows, own, learns
):
    flat, flat_gradients, room = inputs.reshape(-1), gradients.reshape(-1), aligned(activations)
    above, below = aligned(TILE * widest), aligned(TILE * widest)
    first, last, samples = _part(chunk, inputs.shape[0], rows.shape[0])
    _clear(own)
    if samples:
        _clear(to_rows.reshape(-1)[first // samples * to_rows.shape[1] : last // samples * to_rows.shape[1]])
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        _activate(flat, start, count, rows, samples, parameters, layers, layers.shape[0] - 1, room)
        _copy_in(flat_gradients, start, count, gradients.shape[1], above, layers[-1, OUTPUT_ROOM])
        for layer in range(layers.shape[0] - 1, -1, -1):
            if learns:
                _to_parameters(layers[layer], above, room, own)
            if layer == 0 and samples:
                _to_rows(above, layers[0, OUTPUT_ROOM], samples, start, count, to_rows)
            if layer > 0 or to_inputs.shape[0]:
                _to_layer_below(layers[layer], parameters, above, below)
                if layer > 0:
                    _mask(below, room[layers[layer, ACTIVATION] :], TILE * layers[layer, INPUT_ROOM])
                above, below = below, above
        if to_inputs.shape[0]:
            width = layers[0, INPUT_ROOM]
            _copy_out(above[: TILE * width].reshape(TILE, width), to_inputs[start : start + count])


@njit(inline="always")
@no_type_check
def _part(chunk, points, rays):
    """First and last point of a chunk, cut between rays where points have them, and the samples of a ray."""
    samples = points // rays if rays else 0
    unit = samples if samples else TILE
    units = (points + unit - 1) // unit
    first, last = chunk * units // CHUNKS * unit, (chunk + 1) * units // CHUNKS * unit
    return first, min(last, points), samples


# LLVM vectorises a loop only where it sees that indexes start at zero and that bounds do not change: hence the views
# and the bounds read into names before each loop.


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _activate(flat, start, count, rows, samples, parameters, layers, most, room):
    """Run a tile through the first `most` layers; `room` then holds what each of them was given, and the last gave."""
    _copy_in(flat, start, count, layers[0, INPUTS], room, layers[0, INPUT_ROOM])
    for layer in range(most):
        facts = layers[layer]
        sums = run_layer(facts, room, facts[ACTIVATION], parameters, facts[BIAS], 0, parameters, room)
        if layer == 0 and samples:
            _add_rows(sums.reshape(TILE, facts[OUTPUT_ROOM]), rows, samples, start, count)
        if layer < layers.shape[0] - 1:
            rectify(sums)


@njit(error_model="numpy")
@no_type_check
def _add_rows(sums, rows, samples, start, count):
    first = 0
    while first < count:
        ray = (start + first) // samples
        last = min(count, (ray + 1) * samples - start)
        row, part = rows[ray], sums[first:last]
        for point in range(last - first):
            for output in range(row.shape[0]):
                part[point, output] += row[output]
        first = last


@njit
@no_type_check
def _clear(values):
    for index in range(values.shape[0]):
        values[index] = _ZERO


@njit
@no_type_check
def _copy_in(flat, start, count, columns, room, width):
    """Copy a tile's rows into padded ones; what is padded, and rows that the tile has not, become zero."""
    target, source = room[: TILE * width], flat[start * columns : (start + count) * columns]
    if count < TILE or columns < width:
        _clear(target)
    if columns == width:
        for index in range(source.shape[0]):  # an assignment of slices would first copy the source
            target[index] = source[index]
    else:
        padded, rows = target.reshape(TILE, width), source.reshape(count, columns)
        for point in range(count):
            for column in range(columns):
                padded[point, column] = rows[point, column]


@njit
@no_type_check
def _copy_out(source, target):
    for point in range(target.shape[0]):
        for column in range(target.shape[1]):
            target[point, column] = source[point, column]


@njit(fastmath=FASTMATH)
@no_type_check
def _to_parameters(facts, above, room, own):
    """Add a tile's gradients of one layer's weight and bias."""
    width, place, target, columns = facts[OUTPUT_ROOM], facts[ACTIVATION], facts[GRADIENT], facts[INPUT_ROOM]
    rows = (facts[OUTPUTS] + ROWS - 1) // ROWS * ROWS
    product(above, 0, 1, width, room, place, own, target, columns, own, target, rows, columns, TILE)
    _to_bias(above, width, own[facts[BIAS] : facts[BIAS] + width])


@njit(fastmath=FASTMATH)
@no_type_check
def _to_bias(above, width, bias):
    fours = above[: TILE * width].reshape(TILE // 4, 4 * width)
    for four in range(TILE // 4):
        a, b = fours[four, :width], fours[four, width : 2 * width]
        c, d = fours[four, 2 * width : 3 * width], fours[four, 3 * width :]
        for output in range(width):
            bias[output] += (a[output] + b[output]) + (c[output] + d[output])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _to_rows(above, width, samples, start, count, to_rows):
    gradients = above[: TILE * width].reshape(TILE, width)
    first = 0
    while first < count:
        ray = (start + first) // samples
        last = min(count, (ray + 1) * samples - start)
        row, part = to_rows[ray], gradients[first:last]
        for point in range(last - first):
            for output in range(row.shape[0]):
                row[output] += part[point, output]
        first = last


@njit(fastmath=FASTMATH)
@no_type_check
def _to_layer_below(facts, parameters, above, below):
    width, step, backward, depth = facts[INPUT_ROOM], facts[OUTPUT_ROOM], facts[BACKWARD], facts[OUTPUTS]
    zeros = parameters.shape[0] - width
    product(above, 0, step, 1, parameters, backward, parameters, zeros, 0, below, 0, TILE, width, depth)


@njit(fastmath=FASTMATH)
@no_type_check
def _mask(gradients, values, count):
    """Drop gradients where the ReLU gave zero."""
    for index in range(count):
        gradients[index] = _ZERO if values[index] <= _ZERO else gradients[index]
