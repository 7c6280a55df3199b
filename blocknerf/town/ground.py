"""Albedo of streets and pavements: asphalt, markings, crosswalks, slabs and grass (Numba)."""

from math import floor
from typing import no_type_check

from numba import njit

from blocknerf.town.patterns import hash_noise, mix, mortar, noise, panel, ring, scale, stripe
from blocknerf.town.streets import (
    MAIN_END,
    MAIN_HALF,
    PARKING,
    SIDE_AT,
    SIDE_END,
    SIDE_HALF,
)

WHITE = (0.62, 0.61, 0.58)
GRASS_COLOR = (0.105, 0.17, 0.05)
GRANITE = (0.42, 0.41, 0.40)


@njit(error_model="numpy")
@no_type_check
def grass(x, y, width):
    """Return the albedo of a lawn with darker and drier patches."""
    brightness = 1.0 + 0.5 * noise(x, y, 2.2, 3, width) + 0.35 * noise(x, y, 0.5, 4, width)
    return mix(scale(GRASS_COLOR, brightness), (0.2, 0.19, 0.08), 0.35 + 0.6 * noise(x, y, 4.5, 5, width))


@njit(error_model="numpy")
@no_type_check
def asphalt(x, y, across, width):
    """Return the albedo of asphalt: cloudy gray with worn tracks, darker patches and manhole covers."""
    brightness = 1.0 + 0.28 * noise(x, y, 3.1, 11, width) + 0.16 * noise(x, y, 0.7, 12, width)
    brightness += 0.22 * noise(x, y, 0.16, 13, width)
    track = stripe(abs(abs(across) - 1.6), 0.45, 1.0, 0.3)
    brightness *= 1.0 - 0.1 * track
    i, j = floor(x / 7.0), floor(y / 4.5)
    u, v = x - (i + 0.5) * 7.0, y - (j + 0.5) * 4.5
    random = hash_noise(int(i), int(j), 14)
    if random < 0.16:
        brightness *= 1.0 - 0.32 * panel(u, v, -1.6, 1.2, -0.7, 0.9, max(width, 0.06))
    color = (0.118 * brightness, 0.118 * brightness, 0.122 * brightness)
    if random > 0.86:
        cover = ring(u - 0.4, v, 0.36, width)
        rim = cover - ring(u - 0.4, v, 0.30, width)
        color = mix(color, (0.06, 0.057, 0.055), cover * 0.8)
        color = mix(color, (0.2, 0.19, 0.18), rim * 0.7)
    return color


@njit(error_model="numpy")
@no_type_check
def crosswalk(along, across, half, width):
    """Return the paint coverage of a zebra crossing, 0.8 m from a junction and 2.6 m deep."""
    depth = stripe(along, 0.8, 3.4, width)
    if depth <= 0.0:
        return 0.0
    inside = stripe(across, -half + 0.35, half - 0.35, width)
    return depth * inside * mortar(across, 1.0, 0.5, width)


@njit(error_model="numpy")
@no_type_check
def main_paint(x, y, width):
    """Return the white paint coverage of the main street outside junctions."""
    along = abs(abs(x) - SIDE_AT) - SIDE_HALF
    paint = crosswalk(along, y, MAIN_HALF, width)
    approach = 1.0 if (abs(x) - SIDE_AT) * x * y < 0.0 else 0.0
    paint += approach * stripe(along, 4.1, 4.45, width) * stripe(abs(y), 0.15, PARKING - 0.1, width)
    open_road = stripe(along, 4.45, 1000.0, width)
    paint += open_road * stripe(y, -0.07, 0.07, width) * mortar(x, 4.0, 2.2, width)
    bays = stripe(along, 6.0, 1000.0, width)
    paint += bays * stripe(abs(y), PARKING - 0.06, PARKING + 0.06, width)
    paint += bays * stripe(abs(y), PARKING, MAIN_HALF, width) * mortar(x - 1.5, 5.6, 0.1, width)
    return min(paint, 1.0)


@njit(error_model="numpy")
@no_type_check
def side_paint(x, y, width):
    """Return the white paint coverage of a side street; x is relative to its centerline."""
    along = abs(y) - MAIN_HALF
    paint = crosswalk(along, x, SIDE_HALF, width)
    approach = 1.0 if x * y < 0.0 else 0.0
    paint += approach * stripe(along, 4.1, 4.45, width) * stripe(abs(x), 0.1, SIDE_HALF - 0.3, width)
    paint += stripe(along, 4.45, 1000.0, width) * stripe(x, -0.06, 0.06, width) * mortar(y, 3.0, 1.4, width)
    return min(paint, 1.0)


@njit(error_model="numpy")
@no_type_check
def ground(x, y, width):
    """Return the albedo of the ground plane."""
    off = abs(x) - SIDE_AT
    on_main = abs(y) < MAIN_HALF + 0.5 and abs(x) < MAIN_END
    on_side = abs(off) < SIDE_HALF + 0.5 and abs(y) < SIDE_END
    if not (on_main or on_side):
        return grass(x, y, width)
    if on_main and on_side:
        return asphalt(x, y, 9.0, width)
    if on_main:
        color = asphalt(x, y, y, width)
        paint = main_paint(x, y, width)
        gutter = stripe(abs(y), MAIN_HALF - 0.3, MAIN_HALF + 1.0, max(width, 0.15))
    else:
        color = asphalt(x, y, off, width)
        center = SIDE_AT if x > 0 else -SIDE_AT
        paint = side_paint(x - center, y, width)
        gutter = stripe(abs(off), SIDE_HALF - 0.3, SIDE_HALF + 1.0, max(width, 0.15))
    worn = 0.85 + 0.5 * noise(x, y, 0.9, 15, width)
    color = mix(color, WHITE, min(paint * worn, 1.0))
    return scale(color, 1.0 - 0.3 * gutter)


@njit(error_model="numpy")
@no_type_check
def pavement(x, y, edge, upward, width):
    """Return the albedo of a pavement: slabs with joints and a granite curb; `edge` is the distance to its edge (m)."""
    base_brightness = 1.0 + 0.18 * noise(x, y, 1.9, 21, width) + 0.12 * noise(x, y, 0.3, 22, width)
    if upward < 0.5 or edge < 0.28:
        joints = mortar(x + y, 1.0, 0.03, width)
        return scale(GRANITE, base_brightness * (1.0 - 0.45 * joints))
    i, j = floor(x / 0.6), floor(y / 0.6)
    slab = (hash_noise(int(i), int(j), 23) - 0.5) * min(max(1.6 - 2.0 * width / 0.6, 0.0), 1.0)
    joints = max(mortar(x, 0.6, 0.03, width), mortar(y, 0.6, 0.03, width))
    brightness = base_brightness * (1.0 + 0.2 * slab) * (1.0 - 0.4 * joints)
    return 0.33 * brightness, 0.315 * brightness, 0.29 * brightness
