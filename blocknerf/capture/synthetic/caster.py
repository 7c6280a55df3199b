"""Batches of rays and points against the town: the kernels' entry points (Numba)."""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from blocknerf.capture.synthetic.materials import paint
from blocknerf.capture.synthetic.shading import shade, sky_radiance
from blocknerf.capture.synthetic.shapes import distance, enter, to_local, to_world
from blocknerf.capture.synthetic.solids import CENTER
from blocknerf.capture.synthetic.traversal import NOTHING, closest, nearest, occluded

# Numba's cache watches this file, not those it calls: the digest makes a change there a change here.
# `tests/capture/test_synthetic_kernels.py` prints the new one.
KERNELS_DIGEST = ""


class Cars(NamedTuple):
    """The solids of moving cars."""

    kinds: np.ndarray
    materials: np.ndarray
    values: np.ndarray


@njit(error_model="numpy")
def look(scene, cars, owner, k, light, x, y, z, width):
    """Radiance of a point of solid k's surface; `owner` holds the solid: the scene, or the moving cars."""
    if k < 0:
        albedo, glow = paint(owner.materials, owner.values, k, x, y, z, 0.0, 0.0, 1.0, x, y, z, width)
        return shade(scene, cars, light, albedo, glow, x, y, z, 0.0, 0.0, 1.0)
    _, nx, ny, nz = distance(owner.kinds, owner.values, k, x, y, z)
    values = owner.values
    lx, ly, lz = to_local(values, k, x - values[k, CENTER], y - values[k, CENTER + 1], z - values[k, CENTER + 2])
    albedo, glow = paint(owner.materials, values, k, lx, ly, lz, nx, ny, nz, x, y, z, width)
    nx, ny, nz = to_world(values, k, nx, ny, nz)
    return shade(scene, cars, light, albedo, glow, x, y, z, nx, ny, nz)


@njit(parallel=True, error_model="numpy", cache=True)
def cast_rays(scene, cars, light, origins, directions, radii, far, radiance, depth, moving):
    """Write what each ray sees: radiance, distance (infinite for sky), and whether it meets a moving car."""
    for i in prange(len(origins)):
        ox, oy, oz = origins[i, 0], origins[i, 1], origins[i, 2]
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        t, k = closest(scene, ox, oy, oz, dx, dy, dz, far)
        car = NOTHING
        for j in range(len(cars.kinds)):
            hit = enter(cars.kinds, cars.values, j, ox, oy, oz, dx, dy, dz)
            if hit < t:
                t, car = hit, j
        x, y, z, width = ox + t * dx, oy + t * dy, oz + t * dz, 2.0 * radii[i] * t
        moving[i] = car >= 0
        depth[i] = t
        if car >= 0:
            color = look(scene, cars, cars, car, light, x, y, z, width)
        elif k != NOTHING:
            color = look(scene, cars, scene, k, light, x, y, z, width)
        else:
            color = sky_radiance(light, dx, dy, dz)
            depth[i] = np.inf
        radiance[i, 0], radiance[i, 1], radiance[i, 2] = color


@njit(parallel=True, error_model="numpy", cache=True)
def measure_points(scene, points, gaps):
    """Write the signed distance of each point to the nearest surface, negative inside; exact up to REACH."""
    for i in prange(len(points)):
        gaps[i] = nearest(scene, points[i, 0], points[i, 1], points[i, 2])[0]


@njit(parallel=True, error_model="numpy", cache=True)
def shade_points(scene, cars, lights, points, widths, depth, radiance):
    """Write the radiance, under every light, of the surface nearest to each point at most `depth` below it."""
    for i in prange(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        gap, k, nx, ny, nz = nearest(scene, x, y, z)
        radiance[i] = 0.0
        if gap > 1e-6 or gap < -depth:
            continue
        if k >= 0:
            nx, ny, nz = to_world(scene.values, k, nx, ny, nz)
        x, y, z = x - gap * nx, y - gap * ny, z - gap * nz
        for j in range(len(lights)):
            color = look(scene, cars, scene, k, lights[j], x, y, z, widths[i])
            radiance[i, 3 * j], radiance[i, 3 * j + 1], radiance[i, 3 * j + 2] = color


@njit(parallel=True, error_model="numpy", cache=True)
def shade_sky(lights, directions, radiance):
    """Write the radiance of the sky under every light."""
    for i in prange(len(directions)):
        for j in range(len(lights)):
            color = sky_radiance(lights[j], directions[i, 0], directions[i, 1], directions[i, 2])
            radiance[i, 3 * j], radiance[i, 3 * j + 1], radiance[i, 3 * j + 2] = color


@njit(parallel=True, error_model="numpy", cache=True)
def see_points(scene, points, directions, eyes, cosine, slack, seen):
    """Write 1 where any of `eyes` looks at a point along nearly its direction with nothing between, else 0."""
    for i in prange(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        seen[i] = 0.0
        for j in range(len(eyes)):
            dx, dy, dz = x - eyes[j, 0], y - eyes[j, 1], z - eyes[j, 2]
            length = np.sqrt(dx * dx + dy * dy + dz * dz)
            if length < 1e-6:
                seen[i] = 1.0
                break
            dx, dy, dz = dx / length, dy / length, dz / length
            if dx * directions[i, 0] + dy * directions[i, 1] + dz * directions[i, 2] < cosine:
                continue
            if length <= slack or not occluded(scene, eyes[j, 0], eyes[j, 1], eyes[j, 2], dx, dy, dz, length - slack):
                seen[i] = 1.0
                break


NO_CARS = Cars(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 19)))
