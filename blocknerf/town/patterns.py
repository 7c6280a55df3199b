"""Band-limited noise and edges: every pattern fades to its mean as the footprint grows (Numba)."""

from math import floor, sqrt
from typing import no_type_check

from numba import njit

# Only + - * / and square roots: IEEE arithmetic defines these exactly, so renderings are identical on every machine.


@njit(error_model="numpy")
@no_type_check
def hash_noise(a, b, c):
    """Return a pseudo-random number in 0..1 from three integers."""
    h = (a * 374761393 + b * 668265263 + c * 2147483647 + 1013904223) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@njit(error_model="numpy")
@no_type_check
def fade(size, width):
    """Return the contrast of a pattern with cells of `size` under a footprint of `width`, 0..1."""
    return min(max(1.6 - 2.0 * width / size, 0.0), 1.0)


@njit(error_model="numpy")
@no_type_check
def noise(x, y, size, seed, width):
    """Return smooth 2D noise in -0.5..0.5 with cells of `size`, band-limited to `width`."""
    contrast = fade(size, width)
    if contrast <= 0.0:
        return 0.0
    x, y = x / size, y / size
    i, j = floor(x), floor(y)
    u, v = x - i, y - j
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    low = hash_noise(i, j, seed) * (1.0 - u) + hash_noise(i + 1, j, seed) * u
    high = hash_noise(i, j + 1, seed) * (1.0 - u) + hash_noise(i + 1, j + 1, seed) * u
    return contrast * (low * (1.0 - v) + high * v - 0.5)


@njit(error_model="numpy")
@no_type_check
def noise3(x, y, z, size, seed, width):
    """Return smooth 3D noise in -0.5..0.5, band-limited to `width`."""
    contrast = fade(size, width)
    if contrast <= 0.0:
        return 0.0
    layer = z / size
    k = floor(layer)
    w = layer - k
    w = w * w * (3.0 - 2.0 * w)
    below, above = noise(x, y, size, seed + 57 * k, 0.0), noise(x, y, size, seed + 57 * (k + 1), 0.0)
    return contrast * (below * (1.0 - w) + above * w)


@njit(error_model="numpy")
@no_type_check
def stripe(x, low, high, width):
    """Return the fraction of a footprint of `width` around x within low..high."""
    width = max(width, 1e-4)
    a = min(max((x - low) / width + 0.5, 0.0), 1.0)
    b = min(max((x - high) / width + 0.5, 0.0), 1.0)
    return a - b


@njit(error_model="numpy")
@no_type_check
def panel(x, y, x0, x1, y0, y1, width):
    """Return the fraction of a footprint within a rectangle."""
    return stripe(x, x0, x1, width) * stripe(y, y0, y1, width)


@njit(error_model="numpy")
@no_type_check
def ring(x, y, radius, width):
    """Return the fraction of a footprint within `radius` of the origin."""
    return min(max((radius - sqrt(x * x + y * y)) / max(width, 1e-4) + 0.5, 0.0), 1.0)


@njit(error_model="numpy")
@no_type_check
def mortar(x, period, thin, width):
    """Return the fraction of a footprint on lines of width `thin`, one per `period`; the mean if unresolved."""
    contrast = fade(period, width)
    if contrast <= 0.0:
        return thin / period
    phase = x - floor(x / period + 0.5) * period
    return contrast * stripe(phase, -0.5 * thin, 0.5 * thin, width) + (1.0 - contrast) * thin / period


@njit(error_model="numpy")
@no_type_check
def mix(a, b, fraction):
    """Return a blend of colors a and b with weight `fraction` for b."""
    return a[0] + (b[0] - a[0]) * fraction, a[1] + (b[1] - a[1]) * fraction, a[2] + (b[2] - a[2]) * fraction


@njit(error_model="numpy")
@no_type_check
def scale(a, factor):
    """Return color a times a factor."""
    return a[0] * factor, a[1] * factor, a[2] * factor
