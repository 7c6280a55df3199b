"""Numba (CPU, float32) MLP.

A tile of points passes through all layers while its activations are in the cache. Backward recomputes activations
instead of reading them from memory. Points are split into NUM_CHUNKS chunks, whatever the number of threads. Each chunk
sums its own parameter gradients, which are added in order, so the result does not depend on the threads.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.mlp.numba_layers import (
    INDEX_ZERO,
    INPUTS,
    NUM_CHUNKS,
    PADDED_IN,
    PADDED_OUT,
    TILE,
    backward_tile,
    buffer_layout,
    chunk_bounds,
    copy_in,
    copy_out,
    run_layers,
    zero_,
)
from blocknerf.kernels.numba_ops import aligned_empty
from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH


def mlp(
    inputs: Float[Tensor, "points inputs"],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    ray_bias: Float[Tensor, "rays hidden"] | None,
) -> Float[Tensor, "points outputs"]:
    """Numba version of `torch_impl.mlp`."""
    ray_bias = inputs.new_empty(0, weights[0].shape[0]) if ray_bias is None else ray_bias.contiguous()
    return _Mlp.apply(inputs.contiguous(), ray_bias, len(weights), *weights, *biases)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, ray_bias: Tensor, count: int, *parameters: Tensor) -> Tensor:
        apply_numba_threads()
        layout = buffer_layout((inputs.shape[1], *(weight.shape[0] for weight in parameters[:count])))
        packed = layout.pack(parameters[:count], parameters[count:])
        out = inputs.new_empty(len(inputs), parameters[count - 1].shape[0])
        _forward(
            inputs.detach().numpy(), ray_bias.detach().numpy(), packed, layout.layers, layout.activations, out.numpy()
        )
        ctx.save_for_backward(inputs, ray_bias)
        ctx.layout, ctx.packed = layout, packed
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        apply_numba_threads()
        inputs, ray_bias = ctx.saved_tensors
        layout = ctx.layout
        grad_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else inputs.new_empty(0, inputs.shape[1])
        grad_ray_bias = torch.empty_like(ray_bias)
        need_weights = any(ctx.needs_input_grad[3:])  # false when only a code is optimized
        sums = np.empty((NUM_CHUNKS, layout.gradients), np.float32)
        _backward(
            inputs.detach().numpy(), ray_bias.detach().numpy(), ctx.packed, layout.layers, layout.activations,
            layout.max_width, gradients.contiguous().numpy(), grad_inputs.numpy(), grad_ray_bias.numpy(), sums,
            need_weights,
        )  # fmt: skip
        parameters: list[Tensor | None] = [None] * (2 * len(layout.layers))
        if need_weights:
            weights, biases = layout.unpack(sums.sum(0))
            parameters = [torch.from_numpy(array) for array in (*weights, *biases)]
        ray_bias_gradients = grad_ray_bias if ctx.needs_input_grad[1] else None
        return grad_inputs if ctx.needs_input_grad[0] else None, ray_bias_gradients, None, *parameters


# Bodies of parallel loops are separate functions, because Numba compiles such a body several times. They take signed
# indices: the loop's own are unsigned, and the functions would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _forward(inputs, ray_bias, parameters, layers, activations, out):
    for chunk in prange(NUM_CHUNKS):
        _forward_chunk(np.int64(chunk), inputs, ray_bias, parameters, layers, activations, out)


@njit(parallel=True, cache=True)
@no_type_check
def _backward(
    inputs, ray_bias, parameters, layers, activations, max_width, gradients, grad_inputs, grad_ray_bias, sums,
    need_weights,
):  # fmt: skip
    for chunk in prange(NUM_CHUNKS):
        grads = sums[chunk]
        _backward_chunk(
            np.int64(chunk), inputs, ray_bias, parameters, layers, activations, max_width, gradients, grad_inputs,
            grad_ray_bias, grads, need_weights,
        )  # fmt: skip


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _forward_chunk(chunk, inputs, ray_bias, parameters, layers, activations, out):
    flat, workspace = inputs.reshape(-1), aligned_empty(activations)
    first, last, samples = chunk_bounds(chunk, inputs.shape[0], ray_bias.shape[0])
    width = layers[-1, PADDED_OUT]
    output_view = workspace[activations - TILE * width :].reshape(TILE, width)
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        copy_in(flat, start, count, layers[0, INPUTS], workspace, layers[0, PADDED_IN])
        run_layers(
            layers, workspace, INDEX_ZERO, start, count, ray_bias, samples, parameters, layers.shape[0], workspace
        )
        copy_out(output_view, out[start : start + count])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _backward_chunk(
    chunk, inputs, ray_bias, parameters, layers, activations, max_width, gradients, grad_inputs, grad_ray_bias, grads,
    need_weights,
):  # fmt: skip
    flat, flat_gradients, workspace = inputs.reshape(-1), gradients.reshape(-1), aligned_empty(activations)
    grad_out, grad_in = aligned_empty(TILE * max_width), aligned_empty(TILE * max_width)
    first, last, samples = chunk_bounds(chunk, inputs.shape[0], ray_bias.shape[0])
    need_inputs, width = grad_inputs.shape[0] > 0, layers[0, PADDED_IN]
    zero_(grads)
    if samples:
        hidden = grad_ray_bias.shape[1]
        zero_(grad_ray_bias.reshape(-1)[first // samples * hidden : last // samples * hidden])
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        copy_in(flat, start, count, layers[0, INPUTS], workspace, width)
        run_layers(
            layers, workspace, INDEX_ZERO, start, count, ray_bias, samples, parameters, layers.shape[0] - 1, workspace
        )
        copy_in(flat_gradients, start, count, gradients.shape[1], grad_out, layers[-1, PADDED_OUT])
        grad_out, grad_in = backward_tile(
            layers, workspace, INDEX_ZERO, start, count, samples, parameters, workspace, grad_out, grad_in, grads,
            grad_ray_bias, need_weights, need_inputs,
        )  # fmt: skip
        if need_inputs:
            copy_out(grad_out[: TILE * width].reshape(TILE, width), grad_inputs[start : start + count])
