"""From gradients of outputs and colors back to features and weights, in two Triton kernels.

One takes the color network back to its first layer, one goes on through that and the grid's network to encoded
features: both in one would need more registers than there are. Activations are computed again. Each program takes the
weights up once, adds up their gradients over its tiles in registers and writes them to a row of its own; rows are
summed afterwards, in one order. What reaches features is left to the scatter of the hash grid.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from blocknerf.kernels.precision import MATMUL_DTYPE
from blocknerf.kernels.radiance.triton_tiles import activate, among, load_tile, matrix, of_rays, turned, vector

SHORT = tl.constexpr(tl.float32 if MATMUL_DTYPE is torch.float32 else tl.bfloat16)


@triton.jit
@no_type_check
def product(a, b):
    """A matrix product of numbers with the range of float32 but eight bits of it, summed in float32."""
    return tl.dot(a.to(SHORT), b.to(SHORT))


@triton.jit
@no_type_check
def summed(a, BLOCK: tl.constexpr):
    """The sum of the rows of a tile, sixteen times over: as a product it takes fewer registers than a sum does."""
    return product(tl.full([16, BLOCK], 1.0, tl.float32), a)


@triton.jit
@no_type_check
def _keep(target, value, ROWS: tl.constexpr, COLUMNS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """Store the part of a padded matrix that is not padding, and give the place behind it."""
    row, column = tl.arange(0, HIGH), tl.arange(0, WIDE)
    mask = (row < ROWS)[:, None] & (column < COLUMNS)[None, :]
    tl.store(target + row[:, None] * COLUMNS + column[None, :], value, mask=mask)
    return target + ROWS * COLUMNS


@triton.jit
@no_type_check
def _store_rows(target, value, sample, mask, WIDTH: tl.constexpr, ROOM: tl.constexpr):
    column = tl.arange(0, ROOM)
    place = sample[:, None] * WIDTH + column[None, :]
    tl.store(target + place, value, mask=among(mask, WIDTH, ROOM))


@triton.jit
@no_type_check
def _give_rays(
    target, value, sample, mask, start, count, samples,
    WIDTH: tl.constexpr, ROOM: tl.constexpr, POOLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What reaches the rows of rays: with POOLED added to them, else stored sample by sample."""
    if POOLED:
        # A product with ones where a sample is of a ray. Two programs at most add to a ray, so order does not matter.
        ray, column = start // samples + tl.arange(0, 16), tl.arange(0, ROOM)
        own = (ray[:, None] == (sample // samples)[None, :]) & mask[None, :]
        sums = product(tl.where(own, 1.0, 0.0), value)
        there = ray <= (tl.minimum(start + BLOCK, count) - 1) // samples
        place = ray[:, None] * WIDTH + column[None, :]
        tl.atomic_add(target + place, sums, mask=among(there, WIDTH, ROOM), sem="relaxed")
    else:
        _store_rows(target, value, sample, mask, WIDTH, ROOM)


@triton.jit
@no_type_check
def _through_sigmoid(color, to_color, sample, mask):
    """What reaches the logits of colors, sixteen columns of which three are of use, as products take it."""
    place = sample[:, None] * 3 + tl.arange(0, 16)[None, :]
    there = among(mask, 3, 16)
    tint = tl.load(color + place, mask=there, other=0.0)
    return (tl.load(to_color + place, mask=there, other=0.0) * tint * (1.0 - tint)).to(SHORT)


@triton.jit
@no_type_check
def color_backward(
    features, rows, c1, d1, c2, d2, c3, color, to_color, to_tints, to_rows, partial, count, samples, total,
    OUTPUTS: tl.constexpr, ROOM: tl.constexpr, TINT: tl.constexpr, POOLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of what the first layer sums up, of rows (one a sample unless POOLED), and of the layers behind it.

    The first bias has no gradient here: it is the sum of those of the rows. `total` is the length of a program's row of
    `partial`.
    """
    first, second = turned(c1, TINT, OUTPUTS, TINT, ROOM), turned(c2, TINT, TINT, TINT, TINT)
    back2, back3 = matrix(c2, TINT, TINT, TINT, TINT).to(SHORT), matrix(c3, 3, TINT, 16, TINT).to(SHORT)
    bias, bias2 = vector(d1, TINT, TINT), vector(d2, TINT, TINT)
    to_c2, to_d2 = tl.zeros([TINT, TINT], tl.float32), tl.zeros([16, TINT], tl.float32)
    to_c3, to_d3 = tl.zeros([16, TINT], tl.float32), tl.zeros([16, 16], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK), tl.num_programs(0)):
        sample = tile * BLOCK + tl.arange(0, BLOCK)
        mask = sample < count
        given = of_rays(features, sample, 1, mask, OUTPUTS, ROOM)
        slope = _through_sigmoid(color, to_color, sample, mask)
        one = activate(tl.dot(given, first) + bias + of_rays(rows, sample, samples, mask, TINT, TINT))
        two = activate(tl.dot(one, second) + bias2)
        to_c3 += product(tl.trans(slope), two)
        to_d3 += summed(slope, BLOCK)
        slope = tl.where(two > 0.0, product(slope, back3), 0.0)
        to_c2 += product(tl.trans(slope), one)
        to_d2 += summed(slope, BLOCK)
        slope = tl.where(one > 0.0, product(slope, back2), 0.0)
        _store_rows(to_tints, slope.to(SHORT), sample, mask, TINT, TINT)
        _give_rays(to_rows, slope, sample, mask, tile * BLOCK, count, samples, TINT, TINT, POOLED, BLOCK)
    row = _keep(partial + tl.program_id(0) * total, to_c2, TINT, TINT, TINT, TINT)
    row = _keep(row, to_d2, 1, TINT, 16, TINT)
    row = _keep(row, to_c3, 3, TINT, 16, TINT)
    _keep(row, to_d3, 1, 3, 16, 16)


@triton.jit
@no_type_check
def grid_backward(
    halves, w1, b1, w2, rows, to_out, features, c1, to_tints, density, to_density, fades, to_planes, to_rows, partial,
    count, samples, total,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, INPUTS: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr,
    ROOM: tl.constexpr, WIDE: tl.constexpr, TINT: tl.constexpr, ROWS: tl.constexpr, COLOR: tl.constexpr,
    FADE: tl.constexpr, POOLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of encoded features, of rows (one a sample unless POOLED), and of the weights.

    With COLOR it goes on from `color_backward`: through the first layer of the color network, whose weights' gradients
    come last, and density. `total` is the length of a program's row of `partial`.
    """
    WIDTH: tl.constexpr = LEVELS * FEATURES
    first, back1 = turned(w1, HIDDEN, WIDTH, WIDE, INPUTS), matrix(w1, HIDDEN, WIDTH, WIDE, INPUTS).to(SHORT)
    back2 = matrix(w2, OUTPUTS, HIDDEN, ROOM, WIDE).to(SHORT)
    if COLOR:
        back3 = matrix(c1, TINT, OUTPUTS, TINT, ROOM).to(SHORT)
    to_w1, to_b1 = tl.zeros([WIDE, INPUTS], tl.float32), tl.zeros([16, WIDE], tl.float32)
    to_w2, to_b2 = tl.zeros([ROOM, WIDE], tl.float32), tl.zeros([16, ROOM], tl.float32)
    to_c1 = tl.zeros([TINT, ROOM], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK), tl.num_programs(0)):
        sample = tile * BLOCK + tl.arange(0, BLOCK)
        mask = sample < count
        inputs = load_tile(halves, sample, count, mask, LEVELS, FEATURES, INPUTS)
        sums = tl.dot(inputs, first) + vector(b1, HIDDEN, WIDE)
        if ROWS:
            sums += of_rays(rows, sample, samples, mask, HIDDEN, WIDE)
        hidden = activate(sums)
        if COLOR:
            slope = of_rays(to_tints, sample, 1, mask, TINT, TINT)
            to_c1 += product(tl.trans(slope), of_rays(features, sample, 1, mask, OUTPUTS, ROOM))
            slope = product(slope, back3)
            logit = tl.load(density + sample, mask=mask, other=0.0)
            logit *= tl.load(to_density + sample, mask=mask, other=0.0)
            slope += tl.where((tl.arange(0, ROOM) == 0)[None, :], logit[:, None], 0.0)
            if FADE:
                slope *= tl.load(fades + sample, mask=mask, other=0.0)[:, None]
        else:
            slope = of_rays(to_out, sample, 1, mask, OUTPUTS, ROOM)
        to_w2 += product(tl.trans(slope), hidden)
        to_b2 += summed(slope, BLOCK)
        slope = tl.where(hidden > 0.0, product(slope, back2), 0.0)
        if ROWS:
            _give_rays(to_rows, slope, sample, mask, tile * BLOCK, count, samples, HIDDEN, WIDE, POOLED, BLOCK)
        to_w1 += product(tl.trans(slope), inputs)
        to_b1 += summed(slope, BLOCK)
        slope = product(slope, back1)
        column = tl.arange(0, INPUTS)
        place = (column // FEATURES * count + sample[:, None]) * FEATURES + (column % FEATURES)[None, :]
        tl.store(to_planes + place, slope, mask=among(mask, WIDTH, INPUTS))
    row = _keep(partial + tl.program_id(0) * total, to_w1, HIDDEN, WIDTH, WIDE, INPUTS)
    row = _keep(row, to_b1, 1, HIDDEN, 16, WIDE)
    row = _keep(row, to_w2, OUTPUTS, HIDDEN, ROOM, WIDE)
    row = _keep(row, to_b2, 1, OUTPUTS, 16, ROOM)
    if COLOR:
        _keep(row, to_c1, TINT, OUTPUTS, TINT, ROOM)
