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

from blocknerf.kernels.mlp.layout import (
    ACTIVATION,
    BACKWARD,
    BIAS,
    FORWARD,
    GRADIENT,
    INPUT_ROOM,
    INPUTS,
    OUTPUT_ROOM,
    OUTPUTS,
    TILE,
    layout,
)
from blocknerf.kernels.mlp.products import ROWS, add_product, aligned
from blocknerf.kernels.threads import enter_numba

CHUNKS = 16

# Everything but assumptions that NaN and infinity never happen: training has to notice them.
FASTMATH = {"contract", "reassoc", "nsz", "arcp", "afn"}

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
        sums = np.empty((CHUNKS, plan.gradients), np.float32)
        _backward(
            inputs.detach().numpy(), rows.detach().numpy(), ctx.packed, plan.layers, plan.activations, plan.widest,
            gradients.contiguous().numpy(), to_inputs.numpy(), to_rows.numpy(), sums,
        )  # fmt: skip
        weights, biases = plan.unpack(sums.sum(0))
        parameters = [torch.from_numpy(array) for array in (*weights, *biases)]
        row_gradients = to_rows if ctx.needs_input_grad[1] else None
        return to_inputs if ctx.needs_input_grad[0] else None, row_gradients, None, *parameters


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def _forward(inputs, rows, parameters, layers, activations, out):
    for chunk in prange(CHUNKS):
        room = aligned(activations)
        first, last, samples = _part(chunk, inputs.shape[0], rows.shape[0])
        width = layers[-1, OUTPUT_ROOM]
        final = room[activations - TILE * width :].reshape(TILE, width)
        for start in range(first, last, TILE):
            count = min(TILE, last - start)
            _activate(inputs[start : start + count], rows, samples, parameters, layers, start, room)
            _copy_out(final, out[start : start + count])


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def _backward(inputs, rows, parameters, layers, activations, widest, gradients, to_inputs, to_rows, sums):
    for chunk in prange(CHUNKS):
        room, own = aligned(activations), aligned(sums.shape[1])
        above, below = aligned(TILE * widest), aligned(TILE * widest)
        own[:] = _ZERO
        first, last, samples = _part(chunk, inputs.shape[0], rows.shape[0])
        if samples:
            to_rows[first // samples : last // samples] = _ZERO
        for start in range(first, last, TILE):
            count = min(TILE, last - start)
            _activate(inputs[start : start + count], rows, samples, parameters, layers, start, room)
            _copy_in(gradients[start : start + count], above, layers[-1, OUTPUT_ROOM])
            for layer in range(layers.shape[0] - 1, -1, -1):
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
        sums[chunk] = own


# LLVM vectorises a loop only where it sees that indexes start at zero and that bounds do not change: hence the views
# and the bounds read into names before each loop.


@njit(inline="always")
@no_type_check
def _part(chunk, points, rays):
    """First and last point of a chunk, cut between rays where points have them, and the samples of a ray."""
    samples = points // rays if rays else 0
    unit = samples if samples else TILE
    units = (points + unit - 1) // unit
    first, last = chunk * units // CHUNKS * unit, (chunk + 1) * units // CHUNKS * unit
    return first, min(last, points), samples


@njit(fastmath=FASTMATH)
@no_type_check
def _activate(inputs, rows, samples, parameters, layers, start, room):
    """Run a tile through the network; `room` then holds the inputs of every layer and the outputs."""
    _copy_in(inputs, room, layers[0, INPUT_ROOM])
    for layer in range(layers.shape[0]):
        facts = layers[layer]
        depth, width, place = facts[INPUT_ROOM], facts[OUTPUT_ROOM], facts[ACTIVATION]
        target = place + TILE * depth
        sums = room[target : target + TILE * width]
        _fill(sums.reshape(TILE, width), parameters[facts[BIAS] : facts[BIAS] + width])
        if layer == 0 and samples:
            _add_rows(sums.reshape(TILE, width), rows, samples, start, inputs.shape[0])
        forward = facts[FORWARD]
        add_product(room, place, depth, 1, parameters, forward, room, target, TILE, width, facts[INPUTS])
        if layer < layers.shape[0] - 1:
            _rectify(sums)


@njit
@no_type_check
def _fill(sums, bias):
    for point in range(sums.shape[0]):
        for output in range(sums.shape[1]):
            sums[point, output] = bias[output]


@njit
@no_type_check
def _add_rows(sums, rows, samples, start, count):
    for point in range(count):
        row = rows[(start + point) // samples]
        for output in range(row.shape[0]):
            sums[point, output] += row[output]


@njit(fastmath=FASTMATH)
@no_type_check
def _rectify(values):
    for index in range(values.shape[0]):
        value = values[index]
        # Written so that NaN stays NaN.
        values[index] = _ZERO if value < _ZERO else value


@njit
@no_type_check
def _copy_in(source, room, width):
    """Copy a tile's rows into padded ones; what is padded, and rows that the tile has not, become zero."""
    target = room[: TILE * width].reshape(TILE, width)
    if source.shape[0] < TILE or source.shape[1] < width:
        target[:] = _ZERO
    for point in range(source.shape[0]):
        for column in range(source.shape[1]):
            target[point, column] = source[point, column]


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
    width = facts[OUTPUT_ROOM]
    bias = own[facts[BIAS] : facts[BIAS] + width]
    gradients = above[: TILE * width].reshape(TILE, width)
    for point in range(TILE):
        for output in range(width):
            bias[output] += gradients[point, output]
    rows = (facts[OUTPUTS] + ROWS - 1) // ROWS * ROWS
    add_product(above, 0, 1, width, room, facts[ACTIVATION], own, facts[GRADIENT], rows, facts[INPUT_ROOM], TILE)


@njit(fastmath=FASTMATH)
@no_type_check
def _to_rows(above, width, samples, start, count, to_rows):
    gradients = above[: TILE * width].reshape(TILE, width)
    for point in range(count):
        row = to_rows[(start + point) // samples]
        for output in range(row.shape[0]):
            row[output] += gradients[point, output]


@njit(fastmath=FASTMATH)
@no_type_check
def _to_layer_below(facts, parameters, above, below):
    width = facts[INPUT_ROOM]
    below[: TILE * width] = _ZERO
    step, backward, depth = facts[OUTPUT_ROOM], facts[BACKWARD], facts[OUTPUTS]
    add_product(above, 0, step, 1, parameters, backward, below, 0, TILE, width, depth)


@njit(fastmath=FASTMATH)
@no_type_check
def _mask(gradients, values, count):
    """Drop gradients where the ReLU gave zero."""
    for index in range(count):
        gradients[index] = _ZERO if values[index] <= _ZERO else gradients[index]
