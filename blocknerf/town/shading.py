"""Radiance of surfaces and sky under a lighting condition (Numba)."""

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
SHADOW_RANGE = 150.0
LAMP_RANGE = 13.0
LAMP_COLOR = (1.0, 0.66, 0.34)


@njit(error_model="numpy")
@no_type_check
def sky_channel(lighting, c, fraction, cloud, halo):
    """Return one channel of the sky: gradient, clouds, and the glow of the sun."""
    clear = lighting[HORIZON + c] + (lighting[ZENITH + c] - lighting[HORIZON + c]) * fraction
    return clear + (lighting[CLOUD + c] - clear) * cloud + lighting[HALO + c] * halo


@njit(error_model="numpy")
@no_type_check
def sky_radiance(lighting, dx, dy, dz):
    """Return the radiance of the sky in a direction: gradient, sun with halo, and soft clouds."""
    rise = max(dz, 0.0)
    fraction = 1.35 * rise / (rise + 0.35)
    cosine = dx * lighting[SUN] + dy * lighting[SUN + 1] + dz * lighting[SUN + 2]
    deviation = max(1.0 - cosine, 0.0)
    halo = 1.0 / ((1.0 + 9.0 * deviation) * (1.0 + 9.0 * deviation)) + 2.5 / (
        (1.0 + 300.0 * deviation) * (1.0 + 300.0 * deviation)
    )
    depth = 1.0 / (rise + 0.22)
    u, v = dx * depth, dy * depth
    cloud = noise(u, v, 1.1, 91, 0.0) + 0.5 * noise(u, v, 0.5, 92, 0.0) + 0.25 * noise(u, v, 0.25, 93, 0.0)
    cloud = min(max((cloud + 0.02) * 2.4, 0.0), 1.0)
    cloud = cloud * cloud * (3.0 - 2.0 * cloud) * lighting[CLOUDINESS] * min(rise * 5.0, 1.0)
    disc = 0.0
    if lighting[SUNLIGHT] > 0.0:
        # Larger than the real sun and soft, so that an image can resolve it.
        disc = min(max((cosine - 0.9988) / 0.0007, 0.0), 1.0) * (1.0 - 0.6 * cloud)
    halo += 6.0 * disc
    return (
        sky_channel(lighting, 0, fraction, cloud, halo),
        sky_channel(lighting, 1, fraction, cloud, halo),
        sky_channel(lighting, 2, fraction, cloud, halo),
    )


@njit(error_model="numpy")
@no_type_check
def interpolate_skylight(scene, x, y, z):
    """Return the visible fraction of the sky from a point, interpolated in the skylight volume."""
    volume = scene.skylight
    fx, fy, fz = (x - scene.low[0]) / VOXEL - 0.5, (y - scene.low[1]) / VOXEL - 0.5, (z - scene.low[2]) / VOXEL - 0.5
    ix, iy, iz = int(np.floor(fx)), int(np.floor(fy)), int(np.floor(fz))
    total, weight = 0.0, 0.0
    for corner in range(8):
        jx, jy, jz = ix + (corner & 1), iy + ((corner >> 1) & 1), iz + (corner >> 2)
        wx, wy, wz = 1.0 - abs(fx - jx), 1.0 - abs(fy - jy), 1.0 - abs(fz - jz)
        w = wx * wy * wz
        visible = 1.0
        if 0 <= jx < volume.shape[2] and 0 <= jy < volume.shape[1] and 0 <= jz < volume.shape[0]:
            visible = volume[jz, jy, jx]
        if visible >= 0.0:
            total += w * visible
            weight += w
    return total / weight if weight > 1e-6 else 0.3


@njit(error_model="numpy")
@no_type_check
def lamp_light(scene, x, y, z, nx, ny, nz):
    """Return the light of street lamps within LAMP_RANGE; they cast no shadow."""
    total = 0.0
    for i in range(len(scene.lamps)):
        dx, dy, dz = scene.lamps[i, 0] - x, scene.lamps[i, 1] - y, scene.lamps[i, 2] - z
        squared = dx * dx + dy * dy + dz * dz
        if squared < LAMP_RANGE * LAMP_RANGE:
            edge = 1.0 - squared / (LAMP_RANGE * LAMP_RANGE)
            cosine = max((dx * nx + dy * ny + dz * nz) / np.sqrt(max(squared, 1e-4)), 0.0)
            total += edge * edge * (0.12 + 0.88 * cosine) / (0.35 + 0.09 * squared)
    return total


@njit(error_model="numpy")
@no_type_check
def in_shadow(scene, cars, x, y, z, dx, dy, dz):
    """Whether the town or a moving car occludes the sun at a point."""
    if any_hit(scene, x, y, z, dx, dy, dz, SHADOW_RANGE):
        return True
    return closest_car(cars, x, y, z, dx, dy, dz, SHADOW_RANGE, True)[1] >= 0


@njit(error_model="numpy")
@no_type_check
def shade_channel(lighting, c, albedo, sun, above, below, lamps, glow):
    """Return one channel of the radiance of a matte surface (0.32 is 1 / pi)."""
    irradiance = lighting[SUNLIGHT + c] * sun + lighting[SKYLIGHT + c] * above + lighting[BOUNCE + c] * below
    lamp = LAMP_COLOR[0] if c == 0 else (LAMP_COLOR[1] if c == 1 else LAMP_COLOR[2])
    return albedo * (irradiance + lamps * lamp) * 0.32 + glow * lighting[LAMPS] * lamp


@njit(error_model="numpy")
@no_type_check
def shade(scene, cars, lighting, albedo, glow, x, y, z, nx, ny, nz):
    """Return the radiance of a matte surface under one lighting."""
    x, y, z = x + 2e-3 * nx, y + 2e-3 * ny, z + 2e-3 * nz
    cosine = nx * lighting[SUN] + ny * lighting[SUN + 1] + nz * lighting[SUN + 2]
    sun = 0.0
    sunlit = lighting[SUNLIGHT] > 0.0 and cosine > 0.0
    if sunlit and not in_shadow(scene, cars, x, y, z, lighting[SUN], lighting[SUN + 1], lighting[SUN + 2]):
        sun = cosine
    visible = interpolate_skylight(scene, x + 0.7 * nx, y + 0.7 * ny, z + 0.7 * nz)
    above, below = visible * (0.62 + 0.38 * nz), (0.5 - 0.5 * nz) * (0.35 + 0.65 * visible)
    lamps = 0.0
    if lighting[LAMPS] > 0.0:
        lamps = lighting[LAMPS] * 1.6 * lamp_light(scene, x, y, z, nx, ny, nz)
    return (
        shade_channel(lighting, 0, albedo[0], sun, above, below, lamps, glow),
        shade_channel(lighting, 1, albedo[1], sun, above, below, lamps, glow),
        shade_channel(lighting, 2, albedo[2], sun, above, below, lamps, glow),
    )
