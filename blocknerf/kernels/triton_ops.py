"""How Triton kernels share out samples and rays, and arithmetic that several of them need."""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from blocknerf.kernels.backends import TRITON_INTERPRET

TILE = 1024
"""Elements of one program of four warps: eight a thread, so that a dozen tensors of them stay in registers."""

BLOCK = 128
"""Samples or points of one program where each is on its own: one a thread, so that all tensors are laid out alike."""


def ray_tile(columns: int) -> tuple[int, int]:
    """Rays of one program, and the columns it holds of each: the next power of two.

    >>> ray_tile(48)
    (16, 64)
    """
    width = max(1, triton.next_power_of_2(columns))
    return max(1, TILE // width), width


REGISTERS = 1 << 16
"""Of a multiprocessor."""


def resident(warps: int, registers: int) -> int:
    """Programs of so many warps that a multiprocessor holds at once where a thread takes so many registers.

    >>> resident(2, 255), resident(4, 168)
    (4, 3)
    """
    return max(1, REGISTERS // (32 * warps * registers))


def programs(tiles: int, device: torch.device, each: int) -> int:
    """How many programs take so many tiles, `each` a multiprocessor; interpreted, one after the other, one a tile."""
    if TRITON_INTERPRET:
        return max(1, tiles)
    return max(1, min(tiles, each * torch.cuda.get_device_properties(device).multi_processor_count))


def capability(device: torch.device) -> tuple[int, int]:
    """A GPU's compute capability; 0.0 where kernels are interpreted."""
    return (0, 0) if TRITON_INTERPRET else torch.cuda.get_device_capability(device)


def room(width: int) -> int:
    """Width of a tile that holds so many columns: matrix products want a power of two, 16 at least.

    >>> room(3), room(33)
    (16, 64)
    """
    return max(16, triton.next_power_of_2(width))


@triton.jit
@no_type_check
def absorbed(thickness):
    """1 - exp(-thickness), with all its digits where thickness is small; NaN stays NaN."""
    # Seven terms are exact to rounding below a quarter; above, the difference cancels two bits at most.
    thin = tl.abs(thickness) < 0.25
    x = tl.where(thin, -thickness, 0.0)
    series = 1.0 + x * (1.0 / 6.0) * (1.0 + x * (1.0 / 7.0))
    series = 1.0 + x * (1.0 / 3.0) * (1.0 + x * 0.25 * (1.0 + x * 0.2 * series))
    series = 1.0 + x * 0.5 * series
    return tl.where(thin, thickness * series, 1.0 - tl.exp(-thickness))


@triton.jit
@no_type_check
def within(value, low, high):
    """The value clamped; NaN stays NaN."""
    value = tl.where(value < low, low, value)
    return tl.where(value > high, high, value)


@triton.jit
@no_type_check
def larger(a, b):
    """The larger of two; NaN if one is."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
@no_type_check
def search(values, count, key, inside, HALVINGS: tl.constexpr, AFTER: tl.constexpr):
    """How many of `count` sorted values in memory are below each key; with AFTER, how many not above it.

    `HALVINGS` is `count.bit_length()`.
    """
    low = tl.zeros_like(key).to(tl.int32)
    high = low + count
    for _ in tl.static_range(HALVINGS):
        middle = (low + high) // 2
        value = tl.load(values + middle, mask=inside & (low < high), other=float("inf"))
        passed = (value <= key) if AFTER else (value < key)
        passed = passed & (low < high)
        low, high = tl.where(passed, middle + 1, low), tl.where(passed, high, middle)
    return low


@triton.jit
@no_type_check
def sum_before(sums, index, inside):
    """The sum of all up to an index, itself not among them, of running sums in memory that each include their own."""
    return tl.load(sums + index - 1, mask=inside & (index > 0), other=0.0)
