"""The eight corners of a cell for Triton: where they are, what they weigh, and their features from a packed table.

Everything is one number a sample: no index is ever broadcast over features, which would send it through shared memory.
An entry of a table in half precision is read as one integer and taken apart in registers. Levels are a loop whose facts
are read from a small table: unrolled, kernels would be eight times as long and take as much longer to compile.
"""

from functools import cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float16
from torch import Tensor

from blocknerf.kernels.hash_grid.spec import GridSpec


@cache
def facts(spec: GridSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale of each level, and first entry, size, resolution and hashing."""
    sizes = [after - before for before, after in zip(spec.offsets, spec.offsets[1:], strict=False)]
    rows = list(zip(spec.offsets, sizes, spec.resolutions, map(int, spec.hashed), strict=False))
    whole = torch.tensor(rows, dtype=torch.int32, device=device)
    return torch.tensor(spec.scales, dtype=torch.float32, device=device), whole


def packed(half: Float16[Tensor, "entries features"]) -> Tensor:
    """The entries of a table in half precision as integers.

    Raises:
        ValueError: entries of this many features do not make one integer.
    """
    kinds = {2: torch.int32, 4: torch.int64}
    if half.shape[1] not in kinds:
        raise ValueError(f"hash grid: the fused kernels know 2 or 4 features an entry, not {half.shape[1]}")
    return half.view(kinds[half.shape[1]])


@triton.jit
@no_type_check
def clamp(x):
    """0..1; unlike `tl.clamp` it leaves NaN as it is."""
    x = tl.where(x < 0.0, 0.0, x)
    return tl.where(x > 1.0, 1.0, x)


@triton.jit
@no_type_check
def cell(x, scale):
    """The cell along an axis, and the fraction of it; NaN gives cell 0 and a fraction that is NaN."""
    position = clamp(x) * scale + 0.5
    whole = tl.where(position >= 0.0, position, 0.0).to(tl.int32)
    return whole, position - whole.to(tl.float32)


@triton.jit
@no_type_check
def fade(spread, gain, scale):
    """The level's gain times `reference.antialiasing` of a standard deviation, as two square roots."""
    wide = spread * scale
    wide = 6.283185307179586 * wide * wide
    return gain * tl.rsqrt(tl.sqrt(1.0 + wide * wide))


@triton.jit
@no_type_check
def shape(levels, level):
    """First entry, size, resolution and hashing of a level."""
    first = tl.load(levels + 4 * level)
    size = tl.load(levels + 4 * level + 1).to(tl.uint32)
    side = tl.load(levels + 4 * level + 2).to(tl.uint32)
    return first, size, side, tl.load(levels + 4 * level + 3) != 0


@triton.jit
@no_type_check
def entry(i, j, k, first, size, side, hashed, corner):
    """The entry of the table at a corner, which may be another for each sample, of cells of a level of that shape."""
    a = (i + (corner & 1)).to(tl.uint32)
    b = (j + ((corner >> 1) & 1)).to(tl.uint32)
    c = (k + (corner >> 2)).to(tl.uint32)
    mixed = (a ^ (b * 2654435761) ^ (c * 805459861)) & (size - 1)
    # Past the last grid point tiny-cuda-nn wraps around; one turn is all there can be.
    dense = a + side * (b + side * c)
    dense = tl.where(dense >= size, dense - size, dense)
    return first + tl.where(hashed, mixed, dense).to(tl.int32)


@triton.jit
@no_type_check
def share(x, y, z, CORNER: tl.constexpr):
    """What a corner weighs at fractions of the cell."""
    u = x if CORNER & 1 else 1.0 - x
    v = y if (CORNER >> 1) & 1 else 1.0 - y
    w = z if CORNER >> 2 else 1.0 - z
    return u * v * w


@triton.jit
@no_type_check
def pair(bits):
    """The two halves of a 32-bit integer as numbers."""
    low = (bits & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    high = (bits >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, high


@triton.jit
@no_type_check
def bits_of(low, high):
    """Two numbers as the halves of a 32-bit integer."""
    low = low.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    return low | (high.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) << 16)


@triton.jit
@no_type_check
def features(words, index, mask, FEATURES: tl.constexpr):
    """Four features of entries of a packed table; of two, the others are zero."""
    bits = tl.load(words + index, mask=mask, other=0)
    if FEATURES == 4:
        a, b = pair(bits.to(tl.int32))
        c, d = pair((bits >> 32).to(tl.int32))
    else:
        a, b = pair(bits)
        c, d = tl.zeros_like(a), tl.zeros_like(a)
    return a, b, c, d


@triton.jit
@no_type_check
def interpolate(x, y, z, factor, words, scales, levels, level, mask, FEATURES: tl.constexpr):
    """The features of one level at points of the unit cube, times a factor."""
    scale = tl.load(scales + level)
    first, size, side, hashed = shape(levels, level)
    i, x = cell(x, scale)
    j, y = cell(y, scale)
    k, z = cell(z, scale)
    a, b, c, d = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for corner in tl.static_range(8):
        weight = share(x, y, z, corner) * factor
        p, q, r, s = features(words, entry(i, j, k, first, size, side, hashed, corner), mask, FEATURES)
        a += weight * p
        b += weight * q
        if FEATURES == 4:
            c += weight * r
            d += weight * s
    return a, b, c, d


@triton.jit
@no_type_check
def place(points, footprints, sample, mask, SPREAD: tl.constexpr):
    """Coordinates and standard deviation of samples."""
    x = tl.load(points + 3 * sample, mask=mask, other=0.0)
    y = tl.load(points + 3 * sample + 1, mask=mask, other=0.0)
    z = tl.load(points + 3 * sample + 2, mask=mask, other=0.0)
    spread = tl.load(footprints + sample, mask=mask, other=0.0) if SPREAD else tl.zeros_like(x)
    return x, y, z, spread
