"""Albedo of house walls: plaster and brick, windows, shutters, doors and shop fronts (Numba)."""

from math import floor
from typing import no_type_check

from numba import njit

from blocknerf.town.buildings import BAY, FLOOR, GROUND_FLOOR
from blocknerf.town.patterns import fade, hash_noise, mix, mortar, noise, panel, scale, stripe
from blocknerf.town.solids import BRICK, QUOINS, SHOP, SHUTTERS

TRIM = (0.62, 0.58, 0.5)
FRAME = (0.66, 0.65, 0.62)
MORTAR = (0.42, 0.39, 0.35)


@njit(error_model="numpy")
@no_type_check
def bays(wall):
    """Return number and width of the bays of a wall."""
    count = max(1, int(wall / BAY + 0.5))
    return count, wall / count


@njit(error_model="numpy")
@no_type_check
def has_door(bay, count, seed):
    """Whether the door of the ground floor is in this bay."""
    return bay == int(hash_noise(seed, 5, 77) * count)


@njit(error_model="numpy")
@no_type_check
def plaster(u, v, color, seed, width):
    """Return the albedo of a plastered wall with cloudy variation and faint streaks."""
    brightness = 1.0 + 0.2 * noise(u, v, 2.3, seed, width) + 0.14 * noise(u, v * 0.35, 0.45, seed + 1, width)
    brightness += 0.1 * noise(u, v, 0.12, seed + 2, width)
    return scale(color, brightness)


@njit(error_model="numpy")
@no_type_check
def brick(u, v, color, seed, width):
    """Return the albedo of brickwork in running bond, 24 x 8 cm."""
    course = floor(v / 0.08)
    offset = u + 0.12 * (course - 2.0 * floor(course * 0.5))
    tint = (hash_noise(floor(offset / 0.24), int(course), seed) - 0.5) * fade(0.1, width)
    joints = max(mortar(v, 0.08, 0.012, width), 0.5 * mortar(offset, 0.24, 0.012, width))
    brightness = 1.0 + 0.45 * tint + 0.26 * noise(u, v, 1.4, seed, width) + 0.2 * noise(u, v, 0.5, seed + 3, width)
    return mix(scale(color, brightness), MORTAR, 0.75 * joints)


@njit(error_model="numpy")
@no_type_check
def pane(x, y, height, random, width):
    """Return the albedo of window glass `y` above its sill: reflected sky, dark rooms, some curtains."""
    rise = min(max(y / height, 0.0), 1.0)
    color = mix((0.035, 0.045, 0.06), (0.2, 0.27, 0.36), rise * rise * 0.9)
    if random > 0.45:
        curtain_width = 0.12 + 0.28 * (random - 0.45)
        curtain = stripe(abs(x), 0.5 - curtain_width, 0.6, max(width, 0.05))
        color = mix(color, (0.5, 0.46, 0.4), 0.75 * curtain)
    return color


@njit(error_model="numpy")
@no_type_check
def window(color, x, y, half, bottom, top, random, shutters, accent, width):
    """Add a window to a wall albedo (x from its center, y above the floor); also return its glow at dusk."""
    height = top - bottom
    if shutters:
        leaf = stripe(abs(x), half + 0.08, half + 0.52, width) * stripe(y, bottom - 0.02, top + 0.02, width)
        slats = mortar(y, 0.16, 0.06, width)
        color = mix(color, scale(accent, 1.0 - 0.4 * slats), leaf)
    else:
        color = mix(color, TRIM, panel(x, y, -half - 0.16, half + 0.16, bottom - 0.1, top + 0.2, width))
    color = mix(color, FRAME, panel(x, y, -half, half, bottom, top, width))
    glass = panel(abs(x), y, 0.035, half - 0.07, bottom + 0.07, top - 0.07, width)
    glass *= 1.0 - stripe(y, top - 0.62, top - 0.56, width)
    color = mix(color, pane(x / half * 0.5, y - bottom, height, random, width), glass)
    # Shadow of the reveal: windows are recessed.
    recess = stripe(y, top - 0.22, top, 0.2) * panel(x, y, -half, half, bottom, top, width)
    color = scale(color, 1.0 - 0.5 * recess)
    lit = (random - 0.55) * 1.5 if random > 0.62 else 0.0
    return color, glass * lit * (0.75 + 0.25 * stripe(y, top - 0.9, top, 0.5))


@njit(error_model="numpy")
@no_type_check
def door(color, x, y, accent, width):
    """Add a paneled door to a wall albedo; also return its glow at dusk."""
    color = mix(color, TRIM, panel(x, y, -0.78, 0.78, -1.0, 2.75, width))
    color = mix(color, accent, panel(x, y, -0.6, 0.6, -1.0, 2.6, width))
    for low in (0.3, 1.2):
        field = panel(abs(x), y, 0.1, 0.48, low, low + 0.75, width)
        rim = field - panel(abs(x), y, 0.14, 0.44, low + 0.05, low + 0.7, width)
        color = mix(color, scale(accent, 0.45), rim)
    transom = panel(x, y, -0.5, 0.5, 2.15, 2.5, width)
    return mix(color, (0.12, 0.15, 0.19), transom), transom


@njit(error_model="numpy")
@no_type_check
def shop(color, x, y, half, random, accent, width):
    """Add a shop window and its sign to a wall albedo; also return its glow at dusk."""
    color = mix(color, scale(accent, 0.7), panel(x, y, -half - 0.14, half + 0.14, -1.0, 3.3, width))
    color = mix(color, scale(accent, 1.25), panel(x, y, -half, half, 2.75, 3.2, width))
    # Lettering, visible but not legible.
    letters = panel(x, y, -half * 0.7, half * 0.7, 2.87, 3.07, width) * mortar(x, 0.22, 0.13, width)
    color = mix(color, (0.75, 0.72, 0.62), letters * 0.9)
    glass = panel(x, y, -half + 0.08, half - 0.08, 0.55, 2.6, width) * (1.0 - stripe(x, -0.035, 0.035, width))
    rise = min(max((y - 0.55) / 2.0, 0.0), 1.0)
    inside = mix((0.16, 0.12, 0.08), (0.1, 0.14, 0.19), rise)
    goods = stripe(y, 0.55, 1.15 + 0.35 * noise(x, 0.0, 0.4, int(random * 999.0), width), 0.08)
    inside = mix(inside, (0.3 + 0.3 * random, 0.3, 0.34 - 0.2 * random), 0.6 * goods)
    # Lit from above: bright on the goods, dim near the floor.
    glow = glass * (0.2 + 0.35 * rise + 0.25 * goods)
    return mix(color, inside, glass), glow


@njit(error_model="numpy")
@no_type_check
def facade(u, v, wall, base, accent, seed, style, floors, width):
    """Return albedo and dusk glow of a wall at u along it and v above the pavement."""
    color = brick(u, v, base, seed, width) if style & BRICK else plaster(u, v, base, seed, width)
    color = mix(color, (0.27, 0.26, 0.25), stripe(v, -1.0, 0.55, width))
    if style & QUOINS:
        row = floor(v / 0.42)
        stone_length = 0.36 + 0.2 * (row - 2.0 * floor(row * 0.5))
        stone = stripe(min(u, wall - u), -1.0, stone_length, width) * (1.0 - 0.35 * mortar(v, 0.42, 0.04, width))
        color = mix(color, TRIM, stone * fade(0.8, width))
    color = mix(color, TRIM, stripe(v, GROUND_FLOOR - 0.22, GROUND_FLOOR, width))
    count, span = bays(wall)
    bay = min(max(floor(u / span), 0), count - 1)
    x = u - (bay + 0.5) * span
    if v < GROUND_FLOOR:
        random = hash_noise(seed, bay, 31)
        if has_door(bay, count, seed):
            color, glow = door(color, x, v, accent, width)
            return color, glow
        if style & SHOP:
            return shop(color, x, v, 0.5 * span - 0.3, random, accent, width)
        return window(color, x, v, 0.52, 1.0, 2.6, random, False, accent, width)
    level = floor((v - GROUND_FLOOR) / FLOOR)
    if level >= floors - 1:
        return color, 0.0
    random = hash_noise(seed + level, bay, 32)
    y = v - GROUND_FLOOR - level * FLOOR
    shutters = (style & SHUTTERS) != 0
    return window(color, x, y, 0.52, 0.75, 2.35, random, shutters, accent, width)
