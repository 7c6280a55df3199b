"""The paint of house walls: plaster and brick, windows, shutters, doors and shop fronts (Numba)."""

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
    """How many bays a wall has, and how wide each is."""
    count = max(1, int(wall / BAY + 0.5))
    return count, wall / count


@njit(error_model="numpy")
@no_type_check
def has_door(bay, count, seed):
    """Whether the ground floor has its door in this bay."""
    return bay == int(hash_noise(seed, 5, 77) * count)


@njit(error_model="numpy")
@no_type_check
def plaster(u, v, color, seed, width):
    """Rendered wall: cloudy, with faint streaks below and a darker foot."""
    light = 1.0 + 0.2 * noise(u, v, 2.3, seed, width) + 0.14 * noise(u, v * 0.35, 0.45, seed + 1, width)
    light += 0.1 * noise(u, v, 0.12, seed + 2, width)
    return scale(color, light)


@njit(error_model="numpy")
@no_type_check
def brick(u, v, color, seed, width):
    """Brickwork in running bond, 24 x 8 cm."""
    course = floor(v / 0.08)
    shift = u + 0.12 * (course - 2.0 * floor(course * 0.5))
    tint = (hash_noise(floor(shift / 0.24), int(course), seed) - 0.5) * fade(0.1, width)
    seam = max(mortar(v, 0.08, 0.012, width), 0.5 * mortar(shift, 0.24, 0.012, width))
    light = 1.0 + 0.45 * tint + 0.26 * noise(u, v, 1.4, seed, width) + 0.2 * noise(u, v, 0.5, seed + 3, width)
    return mix(scale(color, light), MORTAR, 0.75 * seam)


@njit(error_model="numpy")
@no_type_check
def pane(x, y, height, luck, width):
    """Colour of window glass `y` above its sill: sky reflected above, rooms dark below, some with curtains."""
    rise = min(max(y / height, 0.0), 1.0)
    color = mix((0.035, 0.045, 0.06), (0.2, 0.27, 0.36), rise * rise * 0.9)
    if luck > 0.45:
        reach = 0.12 + 0.28 * (luck - 0.45)
        drape = stripe(abs(x), 0.5 - reach, 0.6, max(width, 0.05))
        color = mix(color, (0.5, 0.46, 0.4), 0.75 * drape)
    return color


@njit(error_model="numpy")
@no_type_check
def window(color, x, y, half, bottom, top, luck, shutters, accent, width):
    """A wall's colour with one window painted in (x from its middle, y above the floor), and its glow at dusk."""
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
    color = mix(color, pane(x / half * 0.5, y - bottom, height, luck, width), glass)
    # The reveal's shadow: windows sit back in their wall.
    recess = stripe(y, top - 0.22, top, 0.2) * panel(x, y, -half, half, bottom, top, width)
    color = scale(color, 1.0 - 0.5 * recess)
    lit = (luck - 0.55) * 1.5 if luck > 0.62 else 0.0
    return color, glass * lit * (0.75 + 0.25 * stripe(y, top - 0.9, top, 0.5))


@njit(error_model="numpy")
@no_type_check
def door(color, x, y, accent, width):
    """A wall's colour with a panelled door painted in."""
    color = mix(color, TRIM, panel(x, y, -0.78, 0.78, -1.0, 2.75, width))
    color = mix(color, accent, panel(x, y, -0.6, 0.6, -1.0, 2.6, width))
    for low in (0.3, 1.2):
        field = panel(abs(x), y, 0.1, 0.48, low, low + 0.75, width)
        rim = field - panel(abs(x), y, 0.14, 0.44, low + 0.05, low + 0.7, width)
        color = mix(color, scale(accent, 0.45), rim)
    light = panel(x, y, -0.5, 0.5, 2.15, 2.5, width)
    return mix(color, (0.12, 0.15, 0.19), light), light


@njit(error_model="numpy")
@no_type_check
def shop(color, x, y, half, luck, accent, width):
    """A wall's colour with a shop window and the sign above it painted in."""
    color = mix(color, scale(accent, 0.7), panel(x, y, -half - 0.14, half + 0.14, -1.0, 3.3, width))
    color = mix(color, scale(accent, 1.25), panel(x, y, -half, half, 2.75, 3.2, width))
    # Lettering: too small to read, large enough to see.
    letters = panel(x, y, -half * 0.7, half * 0.7, 2.87, 3.07, width) * mortar(x, 0.22, 0.13, width)
    color = mix(color, (0.75, 0.72, 0.62), letters * 0.9)
    glass = panel(x, y, -half + 0.08, half - 0.08, 0.55, 2.6, width) * (1.0 - stripe(x, -0.035, 0.035, width))
    rise = min(max((y - 0.55) / 2.0, 0.0), 1.0)
    inside = mix((0.16, 0.12, 0.08), (0.1, 0.14, 0.19), rise)
    goods = stripe(y, 0.55, 1.15 + 0.35 * noise(x, 0.0, 0.4, int(luck * 999.0), width), 0.08)
    inside = mix(inside, (0.3 + 0.3 * luck, 0.3, 0.34 - 0.2 * luck), 0.6 * goods)
    # Lit from above: bright on the goods, dim toward the floor.
    glow = glass * (0.2 + 0.35 * rise + 0.25 * goods)
    return mix(color, inside, glass), glow


@njit(error_model="numpy")
@no_type_check
def facade(u, v, wall, base, accent, seed, style, floors, width):
    """Albedo of a wall at u along it and v above the pavement, and how strongly it glows at dusk."""
    color = brick(u, v, base, seed, width) if style & BRICK else plaster(u, v, base, seed, width)
    color = mix(color, (0.27, 0.26, 0.25), stripe(v, -1.0, 0.55, width))
    if style & QUOINS:
        row = floor(v / 0.42)
        reach = 0.36 + 0.2 * (row - 2.0 * floor(row * 0.5))
        stone = stripe(min(u, wall - u), -1.0, reach, width) * (1.0 - 0.35 * mortar(v, 0.42, 0.04, width))
        color = mix(color, TRIM, stone * fade(0.8, width))
    color = mix(color, TRIM, stripe(v, GROUND_FLOOR - 0.22, GROUND_FLOOR, width))
    count, span = bays(wall)
    bay = min(max(floor(u / span), 0), count - 1)
    x = u - (bay + 0.5) * span
    if v < GROUND_FLOOR:
        luck = hash_noise(seed, bay, 31)
        if has_door(bay, count, seed):
            color, glow = door(color, x, v, accent, width)
            return color, glow
        if style & SHOP:
            return shop(color, x, v, 0.5 * span - 0.3, luck, accent, width)
        return window(color, x, v, 0.52, 1.0, 2.6, luck, False, accent, width)
    level = floor((v - GROUND_FLOOR) / FLOOR)
    if level >= floors - 1:
        return color, 0.0
    luck = hash_noise(seed + level, bay, 32)
    y = v - GROUND_FLOOR - level * FLOOR
    shutters = (style & SHUTTERS) != 0
    return window(color, x, y, 0.52, 0.75, 2.35, luck, shutters, accent, width)
