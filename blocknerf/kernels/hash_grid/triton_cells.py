"""The eight corners of a cell for Triton: their indices, weights, and features from a packed table.

Every value is one number per sample: no index is broadcast over features, which would need shared memory. An entry of
a half-precision table is read as one integer and unpacked in registers. The loop over levels reads level parameters
from a small table: unrolled, kernels would be eight times as long and compile eight times as slowly.
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
def level_params(spec: GridSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the scale of each level; and its first entry, size, resolution and whether it is hashed."""
    sizes = [after - before for before, after in zip(spec.offsets, spec.offsets[1:], strict=False)]
    rows = list(zip(spec.offsets, sizes, spec.resolutions, map(int, spec.hashed), strict=False))
    cell_index = torch.tensor(rows, dtype=torch.int32, device=device)
    return torch.tensor(spec.scales, dtype=torch.float32, device=device), cell_index


def as_words(half: Float16[Tensor, "entries features"]) -> Tensor:
    """Return the entries of a half-precision table as integers.

    Raises:
        ValueError: An entry does not fit one integer.
    """
    dtypes = {2: torch.int32, 4: torch.int64}
    if half.shape[1] not in dtypes:
        raise ValueError(f"hash grid: the triton kernels need 2 or 4 features per entry, not {half.shape[1]}")
    return half.view(dtypes[half.shape[1]])


@triton.jit
@no_type_check
def clamp01(x):
    """Return x clamped to 0..1. Unlike `tl.clamp`, NaN stays NaN."""
    x = tl.where(x < 0.0, 0.0, x)
    return tl.where(x > 1.0, 1.0, x)


@triton.jit
@no_type_check
def cell(x, scale):
    """Return the cell index along an axis and the fraction within it. NaN yields cell 0 and a NaN fraction."""
    scaled = clamp01(x) * scale + 0.5
    cell_index = tl.where(scaled >= 0.0, scaled, 0.0).to(tl.int32)
    return cell_index, scaled - cell_index.to(tl.float32)


@triton.jit
@no_type_check
def antialias_weight(std, gain, scale):
    """Return the level's gain times `torch_impl.antialiasing` of a standard deviation, as two square roots."""
    variance = std * scale
    variance = 6.283185307179586 * variance * variance
    return gain * tl.rsqrt(tl.sqrt(1.0 + variance * variance))


@triton.jit
@no_type_check
def level_shape(levels, level):
    """Return first entry, size, resolution of a level, and whether it is hashed."""
    first = tl.load(levels + 4 * level)
    size = tl.load(levels + 4 * level + 1).to(tl.uint32)
    side = tl.load(levels + 4 * level + 2).to(tl.uint32)
    return first, size, side, tl.load(levels + 4 * level + 3) != 0


@triton.jit
@no_type_check
def table_index(i, j, k, first, size, side, hashed, corner):
    """Return the table index of a corner of cells; `corner` may differ between samples."""
    a = (i + (corner & 1)).to(tl.uint32)
    b = (j + ((corner >> 1) & 1)).to(tl.uint32)
    c = (k + (corner >> 2)).to(tl.uint32)
    hashed_index = (a ^ (b * 2654435761) ^ (c * 805459861)) & (size - 1)
    # tiny-cuda-nn wraps around past the last grid point, at most once.
    dense_index = a + side * (b + side * c)
    dense_index = tl.where(dense_index >= size, dense_index - size, dense_index)
    return first + tl.where(hashed, hashed_index, dense_index).to(tl.int32)


@triton.jit
@no_type_check
def corner_weight(x, y, z, CORNER: tl.constexpr):
    """Return the trilinear weight of a corner at fractions of the cell."""
    u = x if CORNER & 1 else 1.0 - x
    v = y if (CORNER >> 1) & 1 else 1.0 - y
    w = z if CORNER >> 2 else 1.0 - z
    return u * v * w


@triton.jit
@no_type_check
def unpack_half2(bits):
    """Return the two half-precision numbers packed in a 32-bit integer."""
    low = (bits & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    high = (bits >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, high


@triton.jit
@no_type_check
def pack_half2(low, high):
    """Pack two numbers as half precision into a 32-bit integer."""
    low = low.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    return low | (high.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) << 16)


@triton.jit
@no_type_check
def load_features(words, index, mask, FEATURES: tl.constexpr):
    """Load four features of packed table entries. With two features, the other two are zero."""
    bits = tl.load(words + index, mask=mask, other=0)
    if FEATURES == 4:
        a, b = unpack_half2(bits.to(tl.int32))
        c, d = unpack_half2((bits >> 32).to(tl.int32))
    else:
        a, b = unpack_half2(bits)
        c, d = tl.zeros_like(a), tl.zeros_like(a)
    return a, b, c, d


@triton.jit
@no_type_check
def interpolate(x, y, z, factor, words, scales, levels, level, mask, FEATURES: tl.constexpr):
    """Return interpolated features of one level at points of the unit cube, times a factor."""
    scale = tl.load(scales + level)
    first, size, side, hashed = level_shape(levels, level)
    i, x = cell(x, scale)
    j, y = cell(y, scale)
    k, z = cell(z, scale)
    a, b, c, d = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for corner in tl.static_range(8):
        weight = corner_weight(x, y, z, corner) * factor
        p, q, r, s = load_features(words, table_index(i, j, k, first, size, side, hashed, corner), mask, FEATURES)
        a += weight * p
        b += weight * q
        if FEATURES == 4:
            c += weight * r
            d += weight * s
    return a, b, c, d


@triton.jit
@no_type_check
def load_points(points, footprints, sample, mask, FOOTPRINTS: tl.constexpr):
    """Load coordinates and standard deviations of samples."""
    x = tl.load(points + 3 * sample, mask=mask, other=0.0)
    y = tl.load(points + 3 * sample + 1, mask=mask, other=0.0)
    z = tl.load(points + 3 * sample + 2, mask=mask, other=0.0)
    std = tl.load(footprints + sample, mask=mask, other=0.0) if FOOTPRINTS else tl.zeros_like(x)
    return x, y, z, std
