"""Numba (CPU, float32) radiance: from points to densities and colors without intermediate tensors.

Forward, tiles of samples are encoded level by level, then pass through the networks in smaller tiles. Only the encoded
features are saved for backward. Backward recomputes activations and stores feature gradients in one plane per level, as
the hash grid's backward kernels read them. Sums have a fixed order (see `mlp`).
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import get_thread_id, njit, prange  # type: ignore[attr-defined]
from torch import Tensor

from blocknerf.kernels.backends import Backend
from blocknerf.kernels.hash_grid import GridSpec, level_weights
from blocknerf.kernels.hash_grid.numba_corners import CHUNK
from blocknerf.kernels.hash_grid.numba_impl import (
    NUM_FLOATS,
    NUM_INDICES,
    encode_tile,
    level_params,
    transpose_to_levels,
)
from blocknerf.kernels.hash_grid.numba_impl import TILE as ENCODE_TILE
from blocknerf.kernels.hash_grid.numba_impl import backward as grid_backward
from blocknerf.kernels.hash_grid.spec import check_table
from blocknerf.kernels.mlp.api import check_shapes
from blocknerf.kernels.mlp.numba_layers import (
    INDEX_ZERO,
    NUM_CHUNKS,
    PADDED_IN,
    PADDED_OUT,
    TILE,
    BufferLayout,
    backward_tile,
    buffer_layout,
    chunk_bounds,
    run_layers,
    zero_,
)
from blocknerf.kernels.numba_ops import aligned_rows, exp_approx
from blocknerf.kernels.radiance import torch_impl
from blocknerf.kernels.radiance.api import DENSITY_LIMIT, DENSITY_SHIFT, ColorParams, HashGridParams
from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH

OUTPUT_FLOATS = 4 * TILE
"""Workspace for a tile's outputs: density logits, then three color channels."""
TILE_FLOATS = NUM_FLOATS + OUTPUT_FLOATS
"""Workspace floats of a tile, without those of the networks."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_SHIFT, _LIMIT = np.float32(DENSITY_SHIFT), np.float32(DENSITY_LIMIT)


def grid_network(
    params: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"] | None,
    backend: Backend,
) -> Float[Tensor, "points outputs"]:
    """Numba versions of the hash grid and of the MLP, one after the other."""
    return torch_impl.grid_network(params, points, footprints, ray_bias, backend)


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"],
    half_extent: float,
    gradient_scale: Float[Tensor, "points"] | None,
    backend: Backend,
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """Numba version of `torch_impl.radiance`."""
    check_table(field.table, field.grid)
    check_shapes(len(points), field.grid.output_dim, field.weights, field.biases, None)
    check_shapes(len(points), len(field.biases[-1]), color.weights, color.biases, ray_bias)
    empty = points.new_empty(0)
    footprints = empty if footprints is None else footprints.detach().contiguous()
    gradient_scale = empty if gradient_scale is None else gradient_scale.detach().contiguous()
    gains = level_weights(field.grid.num_levels, field.active_levels)
    counts = len(field.weights), len(color.weights)
    layers = (*field.weights, *field.biases, *color.weights, *color.biases)
    inputs = points.contiguous(), footprints, gradient_scale, ray_bias.contiguous(), field.table.contiguous()
    return _Radiance.apply((field.grid, gains, counts, half_extent), *inputs, *layers)


class _Radiance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, config: tuple[GridSpec, tuple[float, ...], tuple[int, int], float], points: Tensor,
        footprints: Tensor, gradient_scale: Tensor, ray_bias: Tensor, table: Tensor, *layers: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        grid, gains, counts, half_extent = config
        layouts, packed = _pack_networks(grid, counts, layers)
        encoded = aligned_rows(len(points) + TILE, int(layouts[0].layers[0, PADDED_IN]))
        encoded[len(points) :] = 0.0
        threads = apply_numba_threads()
        floats = aligned_rows(threads, TILE_FLOATS + layouts[0].activations + layouts[1].activations)
        density, color = points.new_empty(len(points)), points.new_empty(len(points), 3)
        _forward(
            *(tensor.detach().numpy() for tensor in (points, table, footprints)),
            *level_params(grid, gains), (0,) * grid.features_per_level, ray_bias.detach().numpy(),
            packed[0], layouts[0].layers, packed[1], layouts[1].layers, layouts[0].activations,
            np.float32(1.0 / half_extent), floats, np.empty((threads, NUM_INDICES), np.int32),
            encoded, density.numpy(), color.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(points, footprints, gradient_scale, ray_bias, table, density, color)
        ctx.config, ctx.layouts, ctx.packed, ctx.encoded = config, layouts, packed, encoded
        return density, color

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_density: Tensor, grad_color: Tensor) -> tuple[Tensor | None, ...]:
        points, footprints, gradient_scale, ray_bias, table, density, color = ctx.saved_tensors
        grid, gains, _, _ = ctx.config
        field, color_layout = ctx.layouts
        needs = ctx.needs_input_grad
        # Both are false when only a code is optimized.
        need_weights, need_inputs = any(needs[6:]), needs[1] or needs[5]
        grad_ray_bias = torch.empty_like(ray_bias) if len(points) else torch.zeros_like(ray_bias)
        sums = tuple(np.empty((NUM_CHUNKS, layout.gradients), np.float32) for layout in ctx.layouts)
        planes = np.empty((grid.num_levels, len(points) * grid.features_per_level if need_inputs else 0), np.float32)
        size = TILE * max(field.max_width, color_layout.max_width)
        _backward(
            ctx.encoded, (0,) * grid.features_per_level, ray_bias.detach().numpy(),
            ctx.packed[0], field.layers, ctx.packed[1], color_layout.layers, field.activations,
            gradient_scale.numpy(), density.detach().numpy(), color.detach().numpy(),
            grad_density.contiguous().numpy(), grad_color.contiguous().numpy(),
            aligned_rows(apply_numba_threads(), 2 * size + field.activations + color_layout.activations),
            size, planes, grad_ray_bias.numpy(), *sums, need_weights, need_inputs,
        )  # fmt: skip
        grad_points, grad_table = grid_backward(points, table, footprints, grid, gains, planes, (needs[1], needs[5]))
        layers = _unpack_gradients(ctx.layouts, sums) if need_weights else [None] * len(needs[6:])
        return None, grad_points, None, None, grad_ray_bias if needs[4] else None, grad_table, *layers


def _pack_networks(
    grid: GridSpec, counts: tuple[int, int], layers: tuple[Tensor, ...]
) -> tuple[tuple[BufferLayout, BufferLayout], tuple[np.ndarray, np.ndarray]]:
    """Return layout and packed parameters of the hash-grid MLP and of the color network."""
    first, second = counts
    weights, biases = layers[:first], layers[first : 2 * first]
    color_weights, color_biases = layers[2 * first : 2 * first + second], layers[2 * first + second :]
    field = buffer_layout((grid.output_dim, *(len(bias) for bias in biases)))
    color = buffer_layout((len(biases[-1]), *(len(bias) for bias in color_biases)))
    return (field, color), (field.pack(weights, biases), color.pack(color_weights, color_biases))


def _unpack_gradients(layouts: tuple[BufferLayout, BufferLayout], sums: tuple[np.ndarray, ...]) -> list[Tensor]:
    """Return gradients of all layers, in argument order, summed over chunks."""
    groups = [
        group for layout, chunk_sums in zip(layouts, sums, strict=True) for group in layout.unpack(chunk_sums.sum(0))
    ]
    return [torch.from_numpy(array) for group in groups for array in group]


# Bodies of parallel loops are separate functions, because Numba compiles such a body several times. They take signed
# indices: the loop's own are unsigned, and the functions would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _forward(
    points, table, footprints, scales, levels, width, ray_bias, parameters, layers, color_params, color_layers, split,
    scale, floats, index, encoded, density, color,
):  # fmt: skip
    for tile in prange((points.shape[0] + ENCODE_TILE * CHUNK - 1) // (ENCODE_TILE * CHUNK)):
        thread, first = get_thread_id(), np.int64(tile) * ENCODE_TILE * CHUNK
        corners, outputs = floats[thread, :NUM_FLOATS], floats[thread, NUM_FLOATS:TILE_FLOATS]
        workspace = floats[thread, TILE_FLOATS:]
        encode_tile(first, points, table, footprints, scales, levels, encoded, width, corners, index[thread])
        forward_tiles(
            first, min(first + ENCODE_TILE * CHUNK, points.shape[0]), encoded, ray_bias,
            (parameters, layers, workspace[:split]), (color_params, color_layers, workspace[split:]), outputs, scale,
            density, color,
        )  # fmt: skip


@njit(parallel=True, cache=True)
@no_type_check
def _backward(
    encoded, width, ray_bias, parameters, layers, color_params, color_layers, split, gradient_scale, density, color,
    grad_density, grad_color, floats, size, planes, grad_ray_bias, field_sums, color_sums, need_weights, need_inputs,
):  # fmt: skip
    for chunk in prange(NUM_CHUNKS):
        workspace = floats[get_thread_id()]
        grad_out, grad_in, rest = workspace[:size], workspace[size : 2 * size], workspace[2 * size :]
        backward_chunk(
            np.int64(chunk), encoded, width, ray_bias, (parameters, layers, rest[:split]),
            (color_params, color_layers, rest[split:]), gradient_scale, density, color, grad_density, grad_color,
            grad_out, grad_in, planes, grad_ray_bias, field_sums[chunk], color_sums[chunk], need_weights, need_inputs,
        )  # fmt: skip


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def forward_tiles(first, last, encoded, ray_bias, field, color_net, outputs, scale, density, color):
    """Compute density and color of samples `first` to `last`. A network is its parameters, layers and workspace."""
    (parameters, layers, workspace), (color_params, color_layers, color_workspace) = field, color_net
    source, row = encoded.reshape(-1), encoded.shape[1]
    samples = density.shape[0] // max(1, ray_bias.shape[0])
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        features = run_layers(
            layers, source, start * row, start, count, ray_bias, INDEX_ZERO, parameters, layers.shape[0], workspace
        )
        logits = run_layers(
            color_layers, workspace, features, start, count, ray_bias, samples, color_params, color_layers.shape[0],
            color_workspace,
        )  # fmt: skip
        _gather_logits(
            workspace[features:], layers[-1, PADDED_OUT], color_workspace[logits:], color_layers[-1, PADDED_OUT],
            outputs,
        )  # fmt: skip
        _activate(outputs[:TILE], outputs[TILE : 4 * TILE], scale)
        _write_outputs(outputs, density[start : start + count], color[start : start + count])


@njit(error_model="numpy")
@no_type_check
def _gather_logits(features, width, logits, color_width, outputs):
    for sample in range(TILE):
        outputs[sample] = features[sample * width]
        for channel in range(3):
            outputs[(1 + channel) * TILE + sample] = logits[sample * color_width + channel]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _activate(logits, outputs, scale):
    for sample in range(TILE):
        logit = logits[sample] - _SHIFT
        logits[sample] = scale * exp_approx(_LIMIT if logit > _LIMIT else logit)
    for offset in range(3 * TILE):
        outputs[offset] = _ONE / (_ONE + exp_approx(-outputs[offset]))


@njit(error_model="numpy")
@no_type_check
def _write_outputs(outputs, density, color):
    for sample in range(density.shape[0]):
        density[sample] = outputs[sample]
        for channel in range(3):
            color[sample, channel] = outputs[(1 + channel) * TILE + sample]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def backward_chunk(
    chunk, encoded, width, ray_bias, field, color_net, gradient_scale, density, color, grad_density, grad_color,
    grad_out, grad_in, planes, grad_ray_bias, field_grads, color_grads, need_weights, need_inputs,
):  # fmt: skip
    """Compute a chunk's gradients: of ray biases, of encoded features in planes, and of parameters in its own sums."""
    (parameters, layers, workspace), (color_params, color_layers, color_workspace) = field, color_net
    source, row = encoded.reshape(-1), encoded.shape[1]
    first, last, samples = chunk_bounds(chunk, density.shape[0], ray_bias.shape[0])
    zero_(field_grads)
    zero_(color_grads)
    if samples:
        hidden = grad_ray_bias.shape[1]
        zero_(grad_ray_bias.reshape(-1)[first // samples * hidden : last // samples * hidden])
    for start in range(first, last, TILE):
        count, end = min(TILE, last - start), min(start + TILE, last)
        offset = start * row
        features = run_layers(
            layers, source, offset, start, count, ray_bias, INDEX_ZERO, parameters, layers.shape[0], workspace
        )
        run_layers(
            color_layers, workspace, features, start, count, ray_bias, samples, color_params, color_layers.shape[0] - 1,
            color_workspace,
        )  # fmt: skip
        _sigmoid_backward(color[start:end], grad_color[start:end], grad_out, color_layers[-1, PADDED_OUT])
        grad_out, grad_in = backward_tile(
            color_layers, workspace, features, start, count, samples, color_params, color_workspace, grad_out, grad_in,
            color_grads, grad_ray_bias, need_weights, need_weights or need_inputs,
        )  # fmt: skip
        if need_weights or need_inputs:
            _add_density_gradient(density[start:end], grad_density[start:end], grad_out, color_layers[0, PADDED_IN])
            if gradient_scale.shape[0]:
                _scale_gradient(gradient_scale[start:end], grad_out, color_layers[0, PADDED_IN])
            grad_out, grad_in = backward_tile(
                layers, source, offset, start, count, INDEX_ZERO, parameters, workspace, grad_out, grad_in, field_grads,
                grad_ray_bias, need_weights, need_inputs,
            )  # fmt: skip
        if need_inputs:
            transpose_to_levels(grad_out, 0, row, start, planes, width, count)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _sigmoid_backward(color, grad_color, grad_out, width):
    """Compute gradients of a tile's color logits, padded by zeros."""
    zero_(grad_out[: TILE * width])
    for sample in range(color.shape[0]):
        for channel in range(3):
            value = color[sample, channel]
            grad_out[sample * width + channel] = grad_color[sample, channel] * value * (_ONE - value)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _add_density_gradient(density, grad_density, grad_out, width):
    for sample in range(density.shape[0]):
        grad_out[sample * width] += grad_density[sample] * density[sample]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _scale_gradient(gradient_scale, grad_out, width):
    tile = grad_out[: TILE * width].reshape(TILE, width)
    for sample in range(gradient_scale.shape[0]):
        for column in range(width):
            tile[sample, column] *= gradient_scale[sample]
