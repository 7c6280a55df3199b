"""Triton kernels of the hash-grid MLP and of radiance: one forward, two backward, and what they share.

Encoding computes one number per sample, but matrix products need a tile. In between, features pass through memory in
one plane per level, which stays in the cache. Training keeps them for the backward pass anyway.

Backward, one kernel backpropagates through the color network to its first layer, the other through that layer and the
hash-grid MLP to encoded features: a single kernel would need too many registers. Activations are recomputed. Each
program loads the weights once, sums their gradients over its tiles in registers and stores them in its own row. Rows
are summed afterwards, in a fixed order. The hash grid's own backward kernels continue from the encoded features.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from blocknerf.kernels.devices import HALF_MAX, MATMUL_DTYPE
from blocknerf.kernels.hash_grid.triton_cells import antialias_weight, interpolate, load_points, pack_half2
from blocknerf.kernels.radiance.api import DENSITY_LIMIT, DENSITY_SHIFT

_HALF_MAX = tl.constexpr(HALF_MAX)
_SHIFT, _LIMIT = tl.constexpr(DENSITY_SHIFT), tl.constexpr(DENSITY_LIMIT)
_MATMUL_DTYPE = tl.constexpr(tl.float32 if MATMUL_DTYPE is torch.float32 else tl.bfloat16)


@triton.jit
@no_type_check
def to_half_saturating(x):
    """Convert to half precision, saturating instead of overflowing; NaN stays NaN."""
    x = tl.where(x > _HALF_MAX, _HALF_MAX, x)
    return tl.where(x < -_HALF_MAX, -_HALF_MAX, x).to(tl.float16)


@triton.jit
@no_type_check
def activate(x):
    """ReLU of a hidden layer, saturated to half precision; NaN stays NaN."""
    x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(x, _HALF_MAX, propagate_nan=tl.PropagateNan.ALL).to(tl.float16)


@triton.jit
@no_type_check
def encode_tile(
    x, y, z, std, gains, scales, levels, words, planes, index, stride, mask,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, GAINS: tl.constexpr,
):  # fmt: skip
    """Store encoded samples at `index` of planes, one plane per level, as one integer per entry."""
    for level in range(LEVELS):
        gain = tl.load(gains + level) if GAINS else 1.0
        factor = antialias_weight(std, gain, tl.load(scales + level))
        a, b, c, d = interpolate(x, y, z, factor, words, scales, levels, level, mask, FEATURES)
        bits = pack_half2(a, b)
        if FEATURES == 4:
            bits = (bits.to(tl.int64) & 0xFFFFFFFF) | (pack_half2(c, d).to(tl.int64) << 32)
        tl.store(planes + level * stride + index, bits, mask=mask)


@triton.jit
@no_type_check
def load_tile(half_planes, index, stride, mask, LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr):
    """Load encoded samples as a matrix, from half-precision planes."""
    column = tl.arange(0, PADDED_IN)
    offset = (
        (column // FEATURES * stride)[None, :] * FEATURES + index[:, None] * FEATURES + (column % FEATURES)[None, :]
    )
    return tl.load(half_planes + offset, mask=row_mask(mask, LEVELS * FEATURES, PADDED_IN), other=0.0)


@triton.jit
@no_type_check
def row_mask(mask, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Return the mask of a tile's elements that are not padding."""
    # Without padding, skip the column test: it would cost an instruction per element.
    return mask[:, None] if WIDTH == PADDED else mask[:, None] & (tl.arange(0, PADDED) < WIDTH)[None, :]


@triton.jit
@no_type_check
def load_weight(
    weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PADDED_ROWS: tl.constexpr, PADDED_COLUMNS: tl.constexpr
):
    """Load a weight as stored, [outputs, inputs], padded by zeros."""
    row, column = tl.arange(0, PADDED_ROWS), tl.arange(0, PADDED_COLUMNS)
    offset = weight + row[:, None] * COLUMNS + column[None, :]
    if ROWS == PADDED_ROWS and COLUMNS == PADDED_COLUMNS:
        return tl.load(offset)
    return tl.load(offset, mask=(row < ROWS)[:, None] & (column < COLUMNS)[None, :], other=0.0)


@triton.jit
@no_type_check
def load_transposed(
    weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PADDED_ROWS: tl.constexpr, PADDED_COLUMNS: tl.constexpr
):
    """Load the transpose of a weight in half precision, padded by zeros; inputs are multiplied by it."""
    row, column = tl.arange(0, PADDED_ROWS), tl.arange(0, PADDED_COLUMNS)
    offset = weight + row[None, :] * COLUMNS + column[:, None]
    mask = (row < ROWS)[None, :] & (column < COLUMNS)[:, None]
    return to_half_saturating(tl.load(offset, mask=mask, other=0.0))


@triton.jit
@no_type_check
def load_bias(bias, COUNT: tl.constexpr, PADDED: tl.constexpr):
    """Load a bias as one row, padded by zeros."""
    column = tl.arange(0, PADDED)
    return tl.load(bias + column, mask=column < COUNT, other=0.0)[None, :]


@triton.jit
@no_type_check
def load_per_ray(rows, sample, samples, mask, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Load for each sample the row of its ray."""
    offset = (sample // samples)[:, None] * WIDTH + tl.arange(0, PADDED)[None, :]
    return tl.load(rows + offset, mask=row_mask(mask, WIDTH, PADDED), other=0.0)


@triton.jit
@no_type_check
def extract_column(x, COLUMN: tl.constexpr, PADDED: tl.constexpr):
    """Return one column of a tile, one number per row."""
    return tl.sum(tl.where((tl.arange(0, PADDED) == COLUMN)[None, :], x, 0.0), axis=1)


@triton.jit
@no_type_check
def trunc_exp_density(logit, scale):
    """Return limited density from its logit; NaN stays NaN."""
    logit = logit - _SHIFT
    return tl.exp(tl.where(logit > _LIMIT, _LIMIT, logit)) * scale


@triton.jit
@no_type_check
def forward(
    points, footprints, gains, scales, levels, words, planes, half_planes, w1, b1, w2, b2,
    ray_bias, c1, d1, c2, d2, c3, d3, out, features, color, count, samples, scale,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr,
    PADDED_OUT: tl.constexpr, PADDED_HIDDEN: tl.constexpr, COLOR_HIDDEN: tl.constexpr, FOOTPRINTS: tl.constexpr,
    GAINS: tl.constexpr, RAY_BIAS: tl.constexpr, COLOR: tl.constexpr, KEEP: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Compute outputs of the hash-grid MLP, or with COLOR density and color.

    PADDED_IN, PADDED_OUT, PADDED_HIDDEN are padded widths. With KEEP, encoded features stay in `planes`, else `planes`
    is workspace of each program.
    """
    first = load_transposed(w1, HIDDEN, LEVELS * FEATURES, PADDED_HIDDEN, PADDED_IN)
    second = load_transposed(w2, OUTPUTS, HIDDEN, PADDED_OUT, PADDED_HIDDEN)
    bias, bias2 = load_bias(b1, HIDDEN, PADDED_HIDDEN), load_bias(b2, OUTPUTS, PADDED_OUT)
    if COLOR:
        third = load_transposed(c1, COLOR_HIDDEN, OUTPUTS, COLOR_HIDDEN, PADDED_OUT)
        fourth = load_transposed(c2, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN)
        last, bias3 = load_transposed(c3, 3, COLOR_HIDDEN, 16, COLOR_HIDDEN), load_bias(d1, COLOR_HIDDEN, COLOR_HIDDEN)
        bias4, bias5 = load_bias(d2, COLOR_HIDDEN, COLOR_HIDDEN), load_bias(d3, 3, 16)
    stride = count if KEEP else tl.num_programs(0) * BLOCK_SIZE
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK_SIZE), tl.num_programs(0)):
        lane = tl.arange(0, BLOCK_SIZE)
        sample = tile * BLOCK_SIZE + lane
        mask = sample < count
        index = sample if KEEP else tl.program_id(0) * BLOCK_SIZE + lane
        x, y, z, std = load_points(points, footprints, sample, mask, FOOTPRINTS)
        encode_tile(x, y, z, std, gains, scales, levels, words, planes, index, stride, mask, LEVELS, FEATURES, GAINS)
        tl.debug_barrier()
        inputs = load_tile(half_planes, index, stride, mask, LEVELS, FEATURES, PADDED_IN)
        sums = tl.dot(inputs, first) + bias
        if RAY_BIAS and not COLOR:
            sums += load_per_ray(ray_bias, sample, samples, mask, HIDDEN, PADDED_HIDDEN)
        outputs = tl.dot(activate(sums), second) + bias2
        if COLOR:
            tl.store(out + sample, trunc_exp_density(extract_column(outputs, 0, PADDED_OUT), scale), mask=mask)
            geo_features = to_half_saturating(outputs)
            if KEEP:
                column = tl.arange(0, PADDED_OUT)
                target = features + sample[:, None] * OUTPUTS + column[None, :]
                tl.store(target, geo_features, mask=row_mask(mask, OUTPUTS, PADDED_OUT))
            sums = tl.dot(geo_features, third) + bias3
            sums += load_per_ray(ray_bias, sample, samples, mask, COLOR_HIDDEN, COLOR_HIDDEN)
            sums = tl.dot(activate(sums), fourth) + bias4
            rgb = tl.sigmoid(tl.dot(activate(sums), last) + bias5)
            channel = tl.arange(0, 16)
            target = color + sample[:, None] * 3 + channel[None, :]
            tl.store(target, rgb, mask=row_mask(mask, 3, 16))
        else:
            column = tl.arange(0, PADDED_OUT)
            target = out + sample[:, None] * OUTPUTS + column[None, :]
            tl.store(target, outputs, mask=row_mask(mask, OUTPUTS, PADDED_OUT))
        if not KEEP:
            tl.debug_barrier()


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
