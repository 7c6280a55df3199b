"""Albedo and glow of all surfaces of the town (Numba)."""

from math import floor, sqrt
from typing import no_type_check

from numba import njit

from blocknerf.town.facades import facade, plaster
from blocknerf.town.ground import grass, ground, pavement
from blocknerf.town.patterns import fade, hash_noise, mix, mortar, noise3, ring, scale, stripe
from blocknerf.town.solids import ACCENT, CENTER, COLOR, FLOORS, HALF_SIZE, SEED, STYLE, Material

# Plain integers: kernels cannot use enumerations.
PLAIN, FACADE, ROOF, PAVEMENT, LEAVES, BARK, CABIN, LAMP, STRIPES, GRASS, HILL, CLOCK = (int(m) for m in Material)


@njit(error_model="numpy")
@no_type_check
def tiles(x, z, color, slate, seed, width):
    """Return the albedo of roof tiles in courses of 30 cm; x along the eaves, z up the roof."""
    course = floor(z / 0.3)
    offset = x + 0.15 * (course - 2.0 * floor(course * 0.5))
    tint = (hash_noise(floor(offset / 0.3), int(course), seed) - 0.5) * fade(0.3, width)
    step = (z / 0.3 - course - 0.5) * fade(0.3, width)
    joints = mortar(offset, 0.3, 0.03, width)
    brightness = 1.0 + (0.3 if slate else 0.4) * tint - 0.35 * step
    return scale(color, brightness * (1.0 - 0.3 * joints))


@njit(error_model="numpy")
@no_type_check
def cabin(x, z, half_x, half_z, color, width):
    """Return the albedo of car windows between their pillars."""
    height = z + half_z
    pillar = stripe(abs(x), half_x - 0.28, half_x + 1.0, width) + stripe(x, -0.12, 0.0, width)
    edge = stripe(height, -1.0, 0.07, width) + stripe(height, 2.0 * half_z - 0.06, 9.0, width)
    glass = mix((0.03, 0.035, 0.045), (0.16, 0.2, 0.25), min(max(height / (2.0 * half_z), 0.0), 1.0))
    return mix(glass, color, min(pillar + edge, 1.0))


@njit(error_model="numpy")
@no_type_check
def clock(u, v, seed, color, width):
    """Return the albedo of a tower wall with a clock; v is relative to the center of the dial."""
    wall = plaster(u, v, color, seed, width)
    wall = mix(wall, (0.2, 0.17, 0.12), ring(u, v, 1.05, width))
    wall = mix(wall, (0.75, 0.72, 0.62), ring(u, v, 0.92, width))
    hand = stripe(u, -0.06, 0.06, width) * stripe(v, -0.1, 0.75, width)
    return mix(wall, (0.05, 0.05, 0.06), max(hand, stripe(v, -0.06, 0.06, width) * stripe(u, -0.1, 0.5, width)))


@njit(error_model="numpy")
@no_type_check
def surface_albedo(scene_materials, values, k, lx, ly, lz, nx, ny, nz, x, y, z, width):
    """Return albedo and dusk glow of solid k (or of the ground, k < 0) at a point.

    `l` and `n` are point and normal in the axes of the solid; x, y, z is the point in the world; `width` its footprint.
    """
    if k < 0:
        return ground(x, y, width), 0.0
    material, seed, style = scene_materials[k], int(values[k, SEED]), int(values[k, STYLE])
    color = (values[k, COLOR], values[k, COLOR + 1], values[k, COLOR + 2])
    accent = (values[k, ACCENT], values[k, ACCENT + 1], values[k, ACCENT + 2])
    hx, hy, hz = values[k, HALF_SIZE], values[k, HALF_SIZE + 1], values[k, HALF_SIZE + 2]
    if material == FACADE:
        if abs(nz) > 0.5:
            brightness = 1.0 + 0.3 * noise3(x, y, 0.0, 1.1, seed, width) + 0.3 * noise3(x, y, 0.0, 0.2, seed, width)
            return scale((0.26, 0.25, 0.24), brightness), 0.0
        across = abs(nx) > abs(ny)
        wall, u = (2.0 * hy, ly + hy) if across else (2.0 * hx, lx + hx)
        face = (1 if nx > 0 else 2) if across else (3 if ny > 0 else 4)
        return facade(u, z, wall, color, accent, seed + 101 * face, style, int(values[k, FLOORS]), width)
    if material == ROOF:
        if nz < 0.05:
            return plaster(x + y, z, accent, seed, width), 0.0
        along = ly if abs(nx) > abs(ny) else lx
        return tiles(along, lz / sqrt(max(1.0 - nz * nz, 0.05)), color, style, seed, width), 0.0
    if material == PAVEMENT:
        return pavement(x, y, min(hx - abs(lx), hy - abs(ly)), nz, width), 0.0
    if material == LEAVES:
        brightness = 1.0 + 0.9 * noise3(x, y, z, 0.55, seed, width) + 0.8 * noise3(x, y, z, 0.2, seed, width)
        warm = 0.5 + noise3(x, y, z, 0.9, seed + 9, width)
        return mix(scale(color, brightness), scale(accent, brightness), warm), 0.0
    if material == BARK:
        return scale(color, 1.0 + 0.6 * noise3(x * 3.0, y * 3.0, z, 0.3, 5, width)), 0.0
    if material == CABIN:
        if abs(nz) > 0.9:
            return color, 0.0
        return cabin(lx if abs(ny) > abs(nx) else 0.3 * hx, lz, hx, hz, color, width), 0.0
    if material == LAMP:
        return color, 3.0
    if material == STRIPES:
        return mix(color, accent, mortar(lx, 0.6, 0.3, width)), 0.0
    if material == GRASS:
        return grass(x, y, width), 0.0
    if material == HILL:
        brightness = 1.0 + 0.5 * noise3(x, y, z, 9.0, seed, width) + 0.4 * noise3(x, y, z, 3.5, seed, width)
        return scale(color, brightness), 0.0
    if material == CLOCK:
        across = abs(nx) > abs(ny)
        return clock(ly if across else lx, z - values[k, CENTER + 2], seed, color, width), 0.0
    return scale(color, 1.0 + 0.15 * noise3(x, y, z, 0.6, seed, width)), 0.0
