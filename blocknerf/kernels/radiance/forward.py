"""From points of the unit cube to what a network gives there, and on to colors, in one Triton kernel."""

from typing import no_type_check

import triton
import triton.language as tl

from blocknerf.kernels.hash_grid.triton_cells import place
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT
from blocknerf.kernels.radiance.triton_tiles import (
    activate,
    among,
    column_of,
    encode_tile,
    halve,
    load_tile,
    of_rays,
    turned,
    vector,
)

_SHIFT, _LIMIT = tl.constexpr(DENSITY_SHIFT), tl.constexpr(DENSITY_LIMIT)


@triton.jit
@no_type_check
def density_of(logit, scale):
    """Density from its logit, bounded; NaN stays NaN."""
    logit = logit - _SHIFT
    return tl.exp(tl.where(logit > _LIMIT, _LIMIT, logit)) * scale


@triton.jit
@no_type_check
def forward(
    points, footprints, gains, scales, levels, words, planes, halves, w1, b1, w2, b2,
    rows, c1, d1, c2, d2, c3, d3, out, features, color, count, samples, scale,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, INPUTS: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr,
    ROOM: tl.constexpr, WIDE: tl.constexpr, TINT: tl.constexpr, SPREAD: tl.constexpr, GAINS: tl.constexpr,
    ROWS: tl.constexpr, COLOR: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Outputs of the grid's network, or with COLOR density and color. INPUTS, ROOM, WIDE, TINT are padded widths: of
    features, outputs, hidden layers, and HIDDEN of the color network. Features stay in `planes` with KEEP, else they
    are scratch of each program.
    """
    first, second = turned(w1, HIDDEN, LEVELS * FEATURES, WIDE, INPUTS), turned(w2, OUTPUTS, HIDDEN, ROOM, WIDE)
    bias, bias2 = vector(b1, HIDDEN, WIDE), vector(b2, OUTPUTS, ROOM)
    if COLOR:
        third, fourth = turned(c1, TINT, OUTPUTS, TINT, ROOM), turned(c2, TINT, TINT, TINT, TINT)
        last, bias3 = turned(c3, 3, TINT, 16, TINT), vector(d1, TINT, TINT)
        bias4, bias5 = vector(d2, TINT, TINT), vector(d3, 3, 16)
    stride = count if KEEP else tl.num_programs(0) * BLOCK
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK), tl.num_programs(0)):
        lane = tl.arange(0, BLOCK)
        sample = tile * BLOCK + lane
        mask = sample < count
        at = sample if KEEP else tl.program_id(0) * BLOCK + lane
        x, y, z, spread = place(points, footprints, sample, mask, SPREAD)
        encode_tile(x, y, z, spread, gains, scales, levels, words, planes, at, stride, mask, LEVELS, FEATURES, GAINS)
        tl.debug_barrier()
        inputs = load_tile(halves, at, stride, mask, LEVELS, FEATURES, INPUTS)
        sums = tl.dot(inputs, first) + bias
        if ROWS and not COLOR:
            sums += of_rays(rows, sample, samples, mask, HIDDEN, WIDE)
        outputs = tl.dot(activate(sums), second) + bias2
        if COLOR:
            tl.store(out + sample, density_of(column_of(outputs, 0, ROOM), scale), mask=mask)
            given = halve(outputs)
            if KEEP:
                column = tl.arange(0, ROOM)
                target = features + sample[:, None] * OUTPUTS + column[None, :]
                tl.store(target, given, mask=among(mask, OUTPUTS, ROOM))
            sums = tl.dot(given, third) + bias3 + of_rays(rows, sample, samples, mask, TINT, TINT)
            sums = tl.dot(activate(sums), fourth) + bias4
            tints = tl.sigmoid(tl.dot(activate(sums), last) + bias5)
            channel = tl.arange(0, 16)
            target = color + sample[:, None] * 3 + channel[None, :]
            tl.store(target, tints, mask=among(mask, 3, 16))
        else:
            column = tl.arange(0, ROOM)
            target = out + sample[:, None] * OUTPUTS + column[None, :]
            tl.store(target, outputs, mask=among(mask, OUTPUTS, ROOM))
        if not KEEP:
            tl.debug_barrier()
