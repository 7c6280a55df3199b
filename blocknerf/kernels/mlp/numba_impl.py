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

from blocknerf.kernels.mlp.backward import go_back
from blocknerf.kernels.mlp.buffer_layout import INPUT_ROOM, INPUTS, OUTPUT_ROOM, TILE, layout
from blocknerf.kernels.mlp.matmul import aligned
from blocknerf.kernels.mlp.tile import CHUNKS, INDEX_ZERO, clear, copy_in, copy_out, part, run_layers
from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH


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
        apply_numba_threads()
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
        apply_numba_threads()
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


# The bodies of parallel loops are functions of their own, since Numba compiles what stands in such a loop several times
# over, and are given signed indexes: the loop has unsigned ones within, and they would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _forward(inputs, rows, parameters, layers, activations, out):
    for chunk in prange(CHUNKS):
        _forward_part(np.int64(chunk), inputs, rows, parameters, layers, activations, out)


@njit(parallel=True, cache=True)
@no_type_check
def _backward(inputs, rows, parameters, layers, activations, widest, gradients, to_inputs, to_rows, sums, learns):
    for chunk in prange(CHUNKS):
        own = sums[chunk]
        _backward_part(
            np.int64(chunk), inputs, rows, parameters, layers, activations, widest, gradients, to_inputs, to_rows, own,
            learns,
        )  # fmt: skip


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _forward_part(chunk, inputs, rows, parameters, layers, activations, out):
    flat, room = inputs.reshape(-1), aligned(activations)
    first, last, samples = part(chunk, inputs.shape[0], rows.shape[0])
    width = layers[-1, OUTPUT_ROOM]
    final = room[activations - TILE * width :].reshape(TILE, width)
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        copy_in(flat, start, count, layers[0, INPUTS], room, layers[0, INPUT_ROOM])
        run_layers(layers, room, INDEX_ZERO, start, count, rows, samples, parameters, layers.shape[0], room)
        copy_out(final, out[start : start + count])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _backward_part(
    chunk, inputs, rows, parameters, layers, activations, widest, gradients, to_inputs, to_rows, own, learns
):
    flat, flat_gradients, room = inputs.reshape(-1), gradients.reshape(-1), aligned(activations)
    above, below = aligned(TILE * widest), aligned(TILE * widest)
    first, last, samples = part(chunk, inputs.shape[0], rows.shape[0])
    deep, width = to_inputs.shape[0] > 0, layers[0, INPUT_ROOM]
    clear(own)
    if samples:
        clear(to_rows.reshape(-1)[first // samples * to_rows.shape[1] : last // samples * to_rows.shape[1]])
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        copy_in(flat, start, count, layers[0, INPUTS], room, width)
        run_layers(layers, room, INDEX_ZERO, start, count, rows, samples, parameters, layers.shape[0] - 1, room)
        copy_in(flat_gradients, start, count, gradients.shape[1], above, layers[-1, OUTPUT_ROOM])
        above, below = go_back(
            layers, room, INDEX_ZERO, start, count, samples, parameters, room, above, below, own, to_rows, learns, deep
        )
        if deep:
            copy_out(above[: TILE * width].reshape(TILE, width), to_inputs[start : start + count])
