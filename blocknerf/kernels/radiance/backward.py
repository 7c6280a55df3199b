"""Backward pass from outputs and colors to encoded features and weights, in two Triton kernels.

One kernel backpropagates through the color network to its first layer, the other through that layer and the hash-grid
MLP to encoded features: a single kernel would need too many registers. Activations are recomputed. Each program loads
the weights once, sums their gradients over its tiles in registers and stores them in its own row. Rows are summed
afterwards, in a fixed order. The hash grid's own backward kernels continue from the encoded features.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from blocknerf.kernels.precision import MATMUL_DTYPE
from blocknerf.kernels.radiance.triton_tiles import (
    activate,
    load_bias,
    load_per_ray,
    load_tile,
    load_transposed,
    load_weight,
    row_mask,
)

_MATMUL_DTYPE = tl.constexpr(tl.float32 if MATMUL_DTYPE is torch.float32 else tl.bfloat16)


@triton.jit
@no_type_check
def matmul(a, b):
    """Matrix product of operands in `MATMUL_DTYPE`, summed in float32."""
    return tl.dot(a.to(_MATMUL_DTYPE), b.to(_MATMUL_DTYPE))


@triton.jit
@no_type_check
def column_sums(a, BLOCK_SIZE: tl.constexpr):
    """Column sums of a tile, repeated in sixteen rows: a matrix product needs fewer registers than a sum."""
    return matmul(tl.full([16, BLOCK_SIZE], 1.0, tl.float32), a)


@triton.jit
@no_type_check
def _store_partial(
    target, value,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PADDED_ROWS: tl.constexpr, PADDED_COLUMNS: tl.constexpr,
):  # fmt: skip
    """Store a padded matrix without its padding. Return the pointer behind it."""
    row, column = tl.arange(0, PADDED_ROWS), tl.arange(0, PADDED_COLUMNS)
    mask = (row < ROWS)[:, None] & (column < COLUMNS)[None, :]
    tl.store(target + row[:, None] * COLUMNS + column[None, :], value, mask=mask)
    return target + ROWS * COLUMNS


@triton.jit
@no_type_check
def _store_per_sample(target, value, sample, mask, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    column = tl.arange(0, PADDED)
    offset = sample[:, None] * WIDTH + column[None, :]
    tl.store(target + offset, value, mask=row_mask(mask, WIDTH, PADDED))


@triton.jit
@no_type_check
def _add_ray_gradients(
    target, value, sample, mask, start, count, samples,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, POOLED: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Gradients of ray biases: with POOLED added per ray, else stored per sample."""
    if POOLED:
        # A product with a 0/1 matrix of ray membership. At most two programs add to a ray, so order does not matter.
        ray, column = start // samples + tl.arange(0, 16), tl.arange(0, PADDED)
        of_ray = (ray[:, None] == (sample // samples)[None, :]) & mask[None, :]
        sums = matmul(tl.where(of_ray, 1.0, 0.0), value)
        valid = ray <= (tl.minimum(start + BLOCK_SIZE, count) - 1) // samples
        offset = ray[:, None] * WIDTH + column[None, :]
        tl.atomic_add(target + offset, sums, mask=row_mask(valid, WIDTH, PADDED), sem="relaxed")
    else:
        _store_per_sample(target, value, sample, mask, WIDTH, PADDED)


@triton.jit
@no_type_check
def _sigmoid_backward(color, grad_color, sample, mask):
    """Gradients of color logits, padded from three to sixteen columns, as a matrix product operand."""
    offset = sample[:, None] * 3 + tl.arange(0, 16)[None, :]
    valid = row_mask(mask, 3, 16)
    rgb = tl.load(color + offset, mask=valid, other=0.0)
    return (tl.load(grad_color + offset, mask=valid, other=0.0) * rgb * (1.0 - rgb)).to(_MATMUL_DTYPE)


@triton.jit
@no_type_check
def color_backward(
    features, ray_bias, c1, d1, c2, d2, c3, color, grad_color, grad_color_hidden, grad_ray_bias, partial, count,
    samples, total,
    OUTPUTS: tl.constexpr, PADDED_OUT: tl.constexpr, COLOR_HIDDEN: tl.constexpr, POOLED: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Gradients of the first layer's sums, of ray biases (per sample unless POOLED), and of the layers behind it.

    The first bias has no gradient here: it is the sum of the ray bias gradients. `total` is the length of a program's
    row of `partial`.
    """
    first = load_transposed(c1, COLOR_HIDDEN, OUTPUTS, COLOR_HIDDEN, PADDED_OUT)
    second = load_transposed(c2, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN)
    back2 = load_weight(c2, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN).to(_MATMUL_DTYPE)
    back3 = load_weight(c3, 3, COLOR_HIDDEN, 16, COLOR_HIDDEN).to(_MATMUL_DTYPE)
    bias, bias2 = load_bias(d1, COLOR_HIDDEN, COLOR_HIDDEN), load_bias(d2, COLOR_HIDDEN, COLOR_HIDDEN)
    grad_c2, grad_d2 = tl.zeros([COLOR_HIDDEN, COLOR_HIDDEN], tl.float32), tl.zeros([16, COLOR_HIDDEN], tl.float32)
    grad_c3, grad_d3 = tl.zeros([16, COLOR_HIDDEN], tl.float32), tl.zeros([16, 16], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK_SIZE), tl.num_programs(0)):
        sample = tile * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        mask = sample < count
        geo_features = load_per_ray(features, sample, 1, mask, OUTPUTS, PADDED_OUT)
        grad = _sigmoid_backward(color, grad_color, sample, mask)
        of_rays = load_per_ray(ray_bias, sample, samples, mask, COLOR_HIDDEN, COLOR_HIDDEN)
        hidden1 = activate(tl.dot(geo_features, first) + bias + of_rays)
        hidden2 = activate(tl.dot(hidden1, second) + bias2)
        grad_c3 += matmul(tl.trans(grad), hidden2)
        grad_d3 += column_sums(grad, BLOCK_SIZE)
        grad = tl.where(hidden2 > 0.0, matmul(grad, back3), 0.0)
        grad_c2 += matmul(tl.trans(grad), hidden1)
        grad_d2 += column_sums(grad, BLOCK_SIZE)
        grad = tl.where(hidden1 > 0.0, matmul(grad, back2), 0.0)
        _store_per_sample(grad_color_hidden, grad.to(_MATMUL_DTYPE), sample, mask, COLOR_HIDDEN, COLOR_HIDDEN)
        _add_ray_gradients(
            grad_ray_bias, grad, sample, mask, tile * BLOCK_SIZE, count, samples, COLOR_HIDDEN, COLOR_HIDDEN, POOLED,
            BLOCK_SIZE,
        )  # fmt: skip
    row = _store_partial(
        partial + tl.program_id(0) * total, grad_c2, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN
    )
    row = _store_partial(row, grad_d2, 1, COLOR_HIDDEN, 16, COLOR_HIDDEN)
    row = _store_partial(row, grad_c3, 3, COLOR_HIDDEN, 16, COLOR_HIDDEN)
    _store_partial(row, grad_d3, 1, 3, 16, 16)


@triton.jit
@no_type_check
def grid_backward(
    half_planes, w1, b1, w2, ray_bias, grad_out, features, c1, grad_color_hidden, density, grad_density, gradient_scale,
    grad_planes, grad_ray_bias, partial, count, samples, total,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr,
    PADDED_OUT: tl.constexpr, PADDED_HIDDEN: tl.constexpr, COLOR_HIDDEN: tl.constexpr, RAY_BIAS: tl.constexpr,
    COLOR: tl.constexpr, SCALE_GRADIENT: tl.constexpr, POOLED: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Gradients of encoded features, of ray biases (per sample unless POOLED), and of the weights.

    With COLOR it continues from `color_backward`, through density and the first layer of the color network; gradients
    of that layer's weights come last. `total` is the length of a program's row of `partial`.
    """
    WIDTH: tl.constexpr = LEVELS * FEATURES
    first = load_transposed(w1, HIDDEN, WIDTH, PADDED_HIDDEN, PADDED_IN)
    back1 = load_weight(w1, HIDDEN, WIDTH, PADDED_HIDDEN, PADDED_IN).to(_MATMUL_DTYPE)
    back2 = load_weight(w2, OUTPUTS, HIDDEN, PADDED_OUT, PADDED_HIDDEN).to(_MATMUL_DTYPE)
    if COLOR:
        back3 = load_weight(c1, COLOR_HIDDEN, OUTPUTS, COLOR_HIDDEN, PADDED_OUT).to(_MATMUL_DTYPE)
    grad_w1, grad_b1 = tl.zeros([PADDED_HIDDEN, PADDED_IN], tl.float32), tl.zeros([16, PADDED_HIDDEN], tl.float32)
    grad_w2, grad_b2 = tl.zeros([PADDED_OUT, PADDED_HIDDEN], tl.float32), tl.zeros([16, PADDED_OUT], tl.float32)
    grad_c1 = tl.zeros([COLOR_HIDDEN, PADDED_OUT], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK_SIZE), tl.num_programs(0)):
        sample = tile * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        mask = sample < count
        inputs = load_tile(half_planes, sample, count, mask, LEVELS, FEATURES, PADDED_IN)
        sums = tl.dot(inputs, first) + load_bias(b1, HIDDEN, PADDED_HIDDEN)
        if RAY_BIAS:
            sums += load_per_ray(ray_bias, sample, samples, mask, HIDDEN, PADDED_HIDDEN)
        hidden = activate(sums)
        if COLOR:
            grad = load_per_ray(grad_color_hidden, sample, 1, mask, COLOR_HIDDEN, COLOR_HIDDEN)
            grad_c1 += matmul(tl.trans(grad), load_per_ray(features, sample, 1, mask, OUTPUTS, PADDED_OUT))
            grad = matmul(grad, back3)
            logit = tl.load(density + sample, mask=mask, other=0.0)
            logit *= tl.load(grad_density + sample, mask=mask, other=0.0)
            grad += tl.where((tl.arange(0, PADDED_OUT) == 0)[None, :], logit[:, None], 0.0)
            if SCALE_GRADIENT:
                grad *= tl.load(gradient_scale + sample, mask=mask, other=0.0)[:, None]
        else:
            grad = load_per_ray(grad_out, sample, 1, mask, OUTPUTS, PADDED_OUT)
        grad_w2 += matmul(tl.trans(grad), hidden)
        grad_b2 += column_sums(grad, BLOCK_SIZE)
        grad = tl.where(hidden > 0.0, matmul(grad, back2), 0.0)
        if RAY_BIAS:
            _add_ray_gradients(
                grad_ray_bias, grad, sample, mask, tile * BLOCK_SIZE, count, samples, HIDDEN, PADDED_HIDDEN, POOLED,
                BLOCK_SIZE,
            )  # fmt: skip
        grad_w1 += matmul(tl.trans(grad), inputs)
        grad_b1 += column_sums(grad, BLOCK_SIZE)
        grad = matmul(grad, back1)
        column = tl.arange(0, PADDED_IN)
        offset = (column // FEATURES * count + sample[:, None]) * FEATURES + (column % FEATURES)[None, :]
        tl.store(grad_planes + offset, grad, mask=row_mask(mask, WIDTH, PADDED_IN))
    row = _store_partial(partial + tl.program_id(0) * total, grad_w1, HIDDEN, WIDTH, PADDED_HIDDEN, PADDED_IN)
    row = _store_partial(row, grad_b1, 1, HIDDEN, 16, PADDED_HIDDEN)
    row = _store_partial(row, grad_w2, OUTPUTS, HIDDEN, PADDED_OUT, PADDED_HIDDEN)
    row = _store_partial(row, grad_b2, 1, OUTPUTS, 16, PADDED_OUT)
    if COLOR:
        _store_partial(row, grad_c1, COLOR_HIDDEN, OUTPUTS, COLOR_HIDDEN, PADDED_OUT)
