"""A field's two networks on tiles of encoded samples, for Numba: forward and backward."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.fast_exp import exp_approx
from blocknerf.kernels.hash_grid.numba_impl import transpose_to_levels
from blocknerf.kernels.mlp.backward import backward_tile
from blocknerf.kernels.mlp.buffer_layout import PADDED_IN, PADDED_OUT, TILE
from blocknerf.kernels.mlp.tile import INDEX_ZERO, chunk_bounds, run_layers, zero_
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT
from blocknerf.numba_config import FASTMATH

OUTPUT_FLOATS = 4 * TILE
"""Workspace for a tile's outputs: density logits, then three color channels."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_SHIFT, _LIMIT = np.float32(DENSITY_SHIFT), np.float32(DENSITY_LIMIT)


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
