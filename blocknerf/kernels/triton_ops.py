"""Tile sizes, program counts and arithmetic shared by the Triton kernels."""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from blocknerf.kernels.backends import TRITON_INTERPRET

TILE_ELEMENTS = 1024
"""Elements per program of four warps: eight per thread, so that a dozen such tensors stay in registers."""

BLOCK_SIZE = 128
"""Samples or points per program where each is independent: one per thread, so that all tensors have one layout."""


def ray_tile(columns: int) -> tuple[int, int]:
    """Return the rays per program and the columns per ray, rounded up to a power of two.

    >>> ray_tile(48)
    (16, 64)
    """
    width = max(1, triton.next_power_of_2(columns))
    return max(1, TILE_ELEMENTS // width), width


REGISTERS_PER_SM = 1 << 16
"""Registers of a multiprocessor."""


def programs_per_sm(warps: int, registers: int) -> int:
    """Return how many programs of `warps` warps fit on a multiprocessor, given the registers per thread.

    >>> programs_per_sm(2, 255), programs_per_sm(4, 168)
    (4, 3)
    """
    return max(1, REGISTERS_PER_SM // (32 * warps * registers))


def num_programs(tiles: int, device: torch.device, per_sm: int) -> int:
    """Return the number of programs for these tiles, at most `per_sm` per multiprocessor; interpreted, one per tile."""
    if TRITON_INTERPRET:
        return max(1, tiles)
    return max(1, min(tiles, per_sm * torch.cuda.get_device_properties(device).multi_processor_count))


def capability(device: torch.device) -> tuple[int, int]:
    """Return a GPU's compute capability; (0, 0) if kernels are interpreted."""
    return (0, 0) if TRITON_INTERPRET else torch.cuda.get_device_capability(device)


def padded_width(width: int) -> int:
    """Return the padded width of a tile: matrix products need a power of two, at least 16.

    >>> padded_width(3), padded_width(33)
    (16, 64)
    """
    return max(16, triton.next_power_of_2(width))


@triton.jit
@no_type_check
def one_minus_exp_neg(thickness):
    """Return 1 - exp(-thickness), accurate for small thickness; NaN stays NaN."""
    # Seven terms are exact to rounding below a quarter; above, the difference cancels at most two bits.
    small = tl.abs(thickness) < 0.25
    x = tl.where(small, -thickness, 0.0)
    series = 1.0 + x * (1.0 / 6.0) * (1.0 + x * (1.0 / 7.0))
    series = 1.0 + x * (1.0 / 3.0) * (1.0 + x * 0.25 * (1.0 + x * 0.2 * series))
    series = 1.0 + x * 0.5 * series
    return tl.where(small, thickness * series, 1.0 - tl.exp(-thickness))


@triton.jit
@no_type_check
def clamp_nan(value, low, high):
    """Return the value clamped to low..high; NaN stays NaN."""
    value = tl.where(value < low, low, value)
    return tl.where(value > high, high, value)


@triton.jit
@no_type_check
def max_nan(a, b):
    """Return the larger of two numbers, or NaN if one is NaN."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
@no_type_check
def searchsorted(values, count, key, inside, HALVINGS: tl.constexpr, RIGHT: tl.constexpr):
    """Return how many of `count` sorted values in memory are below each key, or with RIGHT not above it.

    `HALVINGS` is `count.bit_length()`.
    """
    low = tl.zeros_like(key).to(tl.int32)
    high = low + count
    for _ in tl.static_range(HALVINGS):
        mid = (low + high) // 2
        value = tl.load(values + mid, mask=inside & (low < high), other=float("inf"))
        below = (value <= key) if RIGHT else (value < key)
        below = below & (low < high)
        low, high = tl.where(below, mid + 1, low), tl.where(below, high, mid)
    return low


@triton.jit
@no_type_check
def exclusive_sum(sums, index, inside):
    """Return the exclusive sum up to an index, from inclusive running sums in memory."""
    return tl.load(sums + index - 1, mask=inside & (index > 0), other=0.0)
