"""Kernel entry points: ray casts and point queries against the town, in batches (Numba)."""

from typing import no_type_check

import numpy as np
from numba import njit, prange

from blocknerf.town.acceleration_grid import NOTHING, any_hit, closest_car, closest_hit, nearest
from blocknerf.town.materials import surface_albedo
from blocknerf.town.shading import VOXEL, shade, sky_radiance
from blocknerf.town.shapes import distance, to_local, to_world
from blocknerf.town.solids import CENTER

SKY_RANGE = 40.0
"""Maximum distance of objects that occlude ambient light (m)."""

# Bodies of parallel loops are separate functions: Numba compiles the code inside such a loop several times.


@njit(parallel=True, cache=True)
@no_type_check
def intersect_rays(scene, cars, origins, directions, far, depth, solids):
    """Write the distance to the first surface of each ray (infinite if none) and its solid; cars come last."""
    for i in prange(len(origins)):
        depth[i], solids[i] = intersect_ray(scene, cars, origins[i], directions[i], far)


@njit(parallel=True, cache=True)
@no_type_check
def closest_surface(scene, points, gaps, solids):
    """Write the signed distance to the nearest surface, exact up to `SEARCH_RADIUS`, and the solid of each point."""
    for i in prange(len(points)):
        gaps[i], solids[i] = closest_point(scene, points[i])


@njit(parallel=True, cache=True)
@no_type_check
def shade_surfaces(scene, cars, kinds, materials, values, lightings, points, solids, widths, radiance):
    """Write the radiance of surfaces at points on (or just below) them, for every lighting; 0 for no solid."""
    for i in prange(len(points)):
        shade_surface(scene, cars, kinds, materials, values, lightings, points[i], solids[i], widths[i], radiance[i])


@njit(parallel=True, cache=True)
@no_type_check
def shade_sky(lightings, directions, radiance):
    """Write the radiance of the sky for every lighting."""
    for i in prange(len(directions)):
        shade_direction(lightings, directions[i], radiance[i])


@njit(parallel=True, cache=True)
@no_type_check
def visible_points(scene, points, directions, centers, cosine, tolerance, visible):
    """Write 1 if any camera center sees a point from nearly its direction, else 0."""
    for i in prange(len(points)):
        visible[i] = visible_point(scene, points[i], directions[i], centers, cosine, tolerance)


@njit(parallel=True, cache=True)
@no_type_check
def fill_skylight(scene, directions, volume):
    """Write the fraction of `directions` (all upward) that reach the sky from each cell; -1 inside solids."""
    depth, height, width = volume.shape
    for cell in prange(depth * height * width):
        iz, iy, ix = cell // (height * width), (cell // width) % height, cell % width
        volume[iz, iy, ix] = sky_visibility(scene, directions, ix, iy, iz)


@njit(error_model="numpy")
@no_type_check
def intersect_ray(scene, cars, origin, direction, far):
    """Return the distance to the first surface on a ray, and its solid."""
    ox, oy, oz, dx, dy, dz = origin[0], origin[1], origin[2], direction[0], direction[1], direction[2]
    t, k = closest_hit(scene, ox, oy, oz, dx, dy, dz, far)
    t, car = closest_car(cars, ox, oy, oz, dx, dy, dz, t, False)
    if car != NOTHING:
        k = len(scene.kinds) + car
    return (np.inf if k == NOTHING else t), k


@njit(error_model="numpy")
@no_type_check
def closest_point(scene, point):
    """Return the signed distance of a point to the nearest surface, and its solid."""
    gap, k, _, _, _ = nearest(scene, point[0], point[1], point[2])
    return gap, k


@njit(error_model="numpy")
@no_type_check
def project_to_surface(kinds, values, k, x, y, z):
    """Return the closest point on the surface of a solid (or of the ground) and its normal.

    The normal is returned in the axes of the solid, then in those of the world.
    """
    if k < 0:
        return x, y, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0
    gap, nx, ny, nz = distance(kinds, values, k, x, y, z)
    wx, wy, wz = to_world(values, k, nx, ny, nz)
    return x - gap * wx, y - gap * wy, z - gap * wz, nx, ny, nz, wx, wy, wz


@njit(error_model="numpy")
@no_type_check
def shade_surface(scene, cars, kinds, materials, values, lightings, point, k, width, radiance):
    """Write the radiance of one surface point for every lighting."""
    radiance[:] = 0.0
    if k == NOTHING:
        return
    x, y, z, nx, ny, nz, wx, wy, wz = project_to_surface(kinds, values, k, point[0], point[1], point[2])
    lx, ly, lz = x, y, z
    if k >= 0:
        center = values[k, CENTER : CENTER + 3]
        lx, ly, lz = to_local(values, k, x - center[0], y - center[1], z - center[2])
    albedo, glow = surface_albedo(materials, values, k, lx, ly, lz, nx, ny, nz, x, y, z, width)
    for j in range(len(lightings)):
        color = shade(scene, cars, lightings[j], albedo, glow, x, y, z, wx, wy, wz)
        radiance[3 * j], radiance[3 * j + 1], radiance[3 * j + 2] = color


@njit(error_model="numpy")
@no_type_check
def shade_direction(lightings, direction, radiance):
    """Write the radiance of the sky in one direction for every lighting."""
    for j in range(len(lightings)):
        color = sky_radiance(lightings[j], direction[0], direction[1], direction[2])
        radiance[3 * j], radiance[3 * j + 1], radiance[3 * j + 2] = color


@njit(error_model="numpy")
@no_type_check
def visible_point(scene, point, direction, centers, cosine, tolerance):
    """Return 1 if any camera center sees the point, else 0."""
    for j in range(len(centers)):
        dx, dy, dz = point[0] - centers[j, 0], point[1] - centers[j, 1], point[2] - centers[j, 2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        if length <= tolerance:
            return 1.0
        dx, dy, dz = dx / length, dy / length, dz / length
        if dx * direction[0] + dy * direction[1] + dz * direction[2] < cosine:
            continue
        if not any_hit(scene, centers[j, 0], centers[j, 1], centers[j, 2], dx, dy, dz, length - tolerance):
            return 1.0
    return 0.0


@njit(error_model="numpy")
@no_type_check
def sky_visibility(scene, directions, ix, iy, iz):
    """Return the unoccluded fraction of sky directions at the center of a skylight cell; -1 inside solids."""
    x, y = scene.low[0] + (ix + 0.5) * VOXEL, scene.low[1] + (iy + 0.5) * VOXEL
    z = scene.low[2] + (iz + 0.5) * VOXEL
    if nearest(scene, x, y, z)[0] < 0.0:
        return -1.0
    free = 0.0
    for i in range(len(directions)):
        if not any_hit(scene, x, y, z, directions[i, 0], directions[i, 1], directions[i, 2], SKY_RANGE):
            free += 1.0
    return free / len(directions)
