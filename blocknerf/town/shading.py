"""Radiance of surfaces and sky under the town's lightings (Numba)."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.town.acceleration_grid import any_hit, closest_car
from blocknerf.town.lighting import (
    BOUNCE,
    CLOUD,
    CLOUDINESS,
    HALO,
    HORIZON,
    LAMPS,
    SKYLIGHT,
    SUN,
    SUNLIGHT,
    ZENITH,
)
from blocknerf.town.patterns import noise

VOXEL = 1.5
"""Side of a cell of the skylight volume (m)."""
SHADOW_REACH = 150.0
LAMP_REACH = 13.0
LAMP_COLOR = (1.0, 0.66, 0.34)


@njit(error_model="numpy")
@no_type_check
def sky_channel(light, c, share, puff, halo):
    """One colour of the sky: gradient, then cloud, then the sun's glow over both."""
    clear = light[HORIZON + c] + (light[ZENITH + c] - light[HORIZON + c]) * share
    return clear + (light[CLOUD + c] - clear) * puff + light[HALO + c] * halo


@njit(error_model="numpy")
@no_type_check
def sky_radiance(light, dx, dy, dz):
    """Radiance of the sky in a direction: a gradient, the sun with its halo, and soft clouds."""
    rise = max(dz, 0.0)
    share = 1.35 * rise / (rise + 0.35)
    facing = dx * light[SUN] + dy * light[SUN + 1] + dz * light[SUN + 2]
    away = max(1.0 - facing, 0.0)
    halo = 1.0 / ((1.0 + 9.0 * away) * (1.0 + 9.0 * away)) + 2.5 / ((1.0 + 300.0 * away) * (1.0 + 300.0 * away))
    depth = 1.0 / (rise + 0.22)
    u, v = dx * depth, dy * depth
    puff = noise(u, v, 1.1, 91, 0.0) + 0.5 * noise(u, v, 0.5, 92, 0.0) + 0.25 * noise(u, v, 0.25, 93, 0.0)
    puff = min(max((puff + 0.02) * 2.4, 0.0), 1.0)
    puff = puff * puff * (3.0 - 2.0 * puff) * light[CLOUDINESS] * min(rise * 5.0, 1.0)
    disc = 0.0
    if light[SUNLIGHT] > 0.0:
        # Wider than the true sun and soft, so that a photograph can resolve it.
        disc = min(max((facing - 0.9988) / 0.0007, 0.0), 1.0) * (1.0 - 0.6 * puff)
    halo += 6.0 * disc
    return (
        sky_channel(light, 0, share, puff, halo),
        sky_channel(light, 1, share, puff, halo),
        sky_channel(light, 2, share, puff, halo),
    )


@njit(error_model="numpy")
@no_type_check
def sky_share(scene, x, y, z):
    """Share of the sky seen from a point, interpolated from the skylight volume."""
    volume = scene.skylight
    fx, fy, fz = (x - scene.low[0]) / VOXEL - 0.5, (y - scene.low[1]) / VOXEL - 0.5, (z - scene.low[2]) / VOXEL - 0.5
    ix, iy, iz = int(np.floor(fx)), int(np.floor(fy)), int(np.floor(fz))
    total, weight = 0.0, 0.0
    for corner in range(8):
        jx, jy, jz = ix + (corner & 1), iy + ((corner >> 1) & 1), iz + (corner >> 2)
        wx, wy, wz = 1.0 - abs(fx - jx), 1.0 - abs(fy - jy), 1.0 - abs(fz - jz)
        w = wx * wy * wz
        seen = 1.0
        if 0 <= jx < volume.shape[2] and 0 <= jy < volume.shape[1] and 0 <= jz < volume.shape[0]:
            seen = volume[jz, jy, jx]
        if seen >= 0.0:
            total += w * seen
            weight += w
    return total / weight if weight > 1e-6 else 0.3


@njit(error_model="numpy")
@no_type_check
def lamp_light(scene, x, y, z, nx, ny, nz):
    """Light of the street lamps within reach; they cast no shadow."""
    total = 0.0
    for i in range(len(scene.lamps)):
        dx, dy, dz = scene.lamps[i, 0] - x, scene.lamps[i, 1] - y, scene.lamps[i, 2] - z
        squared = dx * dx + dy * dy + dz * dz
        if squared < LAMP_REACH * LAMP_REACH:
            edge = 1.0 - squared / (LAMP_REACH * LAMP_REACH)
            facing = max((dx * nx + dy * ny + dz * nz) / np.sqrt(max(squared, 1e-4)), 0.0)
            total += edge * edge * (0.12 + 0.88 * facing) / (0.35 + 0.09 * squared)
    return total


@njit(error_model="numpy")
@no_type_check
def in_shadow(scene, cars, x, y, z, dx, dy, dz):
    """Whether the town or a moving car stands between a point and the sun."""
    if any_hit(scene, x, y, z, dx, dy, dz, SHADOW_REACH):
        return True
    return closest_car(cars, x, y, z, dx, dy, dz, SHADOW_REACH, True)[1] >= 0


@njit(error_model="numpy")
@no_type_check
def shade_channel(light, c, albedo, sun, above, below, lamps, glow):
    """One colour of the light that a matte surface sends out (0.32: one over pi)."""
    arriving = light[SUNLIGHT + c] * sun + light[SKYLIGHT + c] * above + light[BOUNCE + c] * below
    lamp = LAMP_COLOR[0] if c == 0 else (LAMP_COLOR[1] if c == 1 else LAMP_COLOR[2])
    return albedo * (arriving + lamps * lamp) * 0.32 + glow * light[LAMPS] * lamp


@njit(error_model="numpy")
@no_type_check
def shade(scene, cars, light, albedo, glow, x, y, z, nx, ny, nz):
    """Radiance of a matte surface under one light."""
    x, y, z = x + 2e-3 * nx, y + 2e-3 * ny, z + 2e-3 * nz
    facing = nx * light[SUN] + ny * light[SUN + 1] + nz * light[SUN + 2]
    sun = 0.0
    sunlit = light[SUNLIGHT] > 0.0 and facing > 0.0
    if sunlit and not in_shadow(scene, cars, x, y, z, light[SUN], light[SUN + 1], light[SUN + 2]):
        sun = facing
    seen = sky_share(scene, x + 0.7 * nx, y + 0.7 * ny, z + 0.7 * nz)
    above, below = seen * (0.62 + 0.38 * nz), (0.5 - 0.5 * nz) * (0.35 + 0.65 * seen)
    lamps = 0.0
    if light[LAMPS] > 0.0:
        lamps = light[LAMPS] * 1.6 * lamp_light(scene, x, y, z, nx, ny, nz)
    return (
        shade_channel(light, 0, albedo[0], sun, above, below, lamps, glow),
        shade_channel(light, 1, albedo[1], sun, above, below, lamps, glow),
        shade_channel(light, 2, albedo[2], sun, above, below, lamps, glow),
    )
