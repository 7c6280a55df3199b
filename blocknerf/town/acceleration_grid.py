"""Uniform grid over the town: the first solid on a ray and the solids near a point (Numba)."""

from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from blocknerf.town.shapes import NO_HIT, distance, enter
from blocknerf.town.solids import SolidArrays

NOTHING, GROUND = -1, -2
SEARCH_RADIUS = 0.35
"""Each cell lists the solids within this distance (m), so one cell suffices for distances up to it."""


class Cars(NamedTuple):
    """The solids of moving cars."""

    kinds: np.ndarray
    materials: np.ndarray
    values: np.ndarray
    starts: np.ndarray
    """Index of the first solid of each car."""
    spheres: np.ndarray
    """Center and radius of a bounding sphere of each car."""


class Scene(NamedTuple):
    """Arrays of a town for the kernels."""

    kinds: np.ndarray
    materials: np.ndarray
    values: np.ndarray
    starts: np.ndarray
    """Start of the list of each cell in `items`."""
    items: np.ndarray
    """Indices of solids."""
    low: np.ndarray
    """Lower corner of the grid."""
    shape: np.ndarray
    """Cells along x, y, z."""
    cell: float
    """Side of a cell (m)."""
    inner: int
    """Number of solids in the grid; the remaining ones are hills around the town."""
    lamps: np.ndarray
    """Positions of street lights."""
    skylight: np.ndarray
    """Visible fraction of the sky at the centers of coarse cells (same lower corner); negative inside solids."""


def build_grid(table: SolidArrays, inner: int, cell: float = 2.0):
    """Return the lists of the first `inner` solids per cell: (starts, items, low, shape)."""
    low, high = (bound[:inner] for bound in table.bounds())
    corner = np.floor(low.min(0) - SEARCH_RADIUS)
    corner[2] = -1.0
    shape = np.ceil((high.max(0) + SEARCH_RADIUS - corner) / cell).astype(np.int64)
    first = np.clip(np.floor((low - SEARCH_RADIUS - corner) / cell).astype(np.int64), 0, shape - 1)
    last = np.clip(np.floor((high + SEARCH_RADIUS - corner) / cell).astype(np.int64), 0, shape - 1)
    cells, owners = [], []
    for k in range(inner):
        x, y, z = (np.arange(first[k, axis], last[k, axis] + 1) for axis in range(3))
        index = ((z[:, None, None] * shape[1] + y[:, None]) * shape[0] + x).ravel()
        cells.append(index)
        owners.append(np.full(len(index), k))
    flat, owner = np.concatenate(cells), np.concatenate(owners)
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(int(np.prod(shape)) + 1))
    return starts, owner[order], corner, shape


@njit(error_model="numpy")
@no_type_check
def clip_axis(o, d, low, high, near, far):
    """Clip a ray interval to the grid along one axis."""
    inverse = 1.0 / d if abs(d) > 1e-12 else 1e12
    a, b = (low - o) * inverse, (high - o) * inverse
    return max(near, min(a, b)), min(far, max(a, b))


@njit(error_model="numpy")
@no_type_check
def first_step(o, d, index, low, cell):
    """Return the distance to the first cell wall along one axis, the distance between walls, and the step in cells."""
    if abs(d) < 1e-12:
        return NO_HIT, NO_HIT, 0
    wall = low + (index + (1 if d > 0 else 0)) * cell
    return (wall - o) / d, cell / abs(d), 1 if d > 0 else -1


@njit(error_model="numpy")
@no_type_check
def search(scene, ox, oy, oz, dx, dy, dz, limit, any_hit):
    """Return distance and index of the first solid in the grid before `limit`, or of any solid if `any_hit`."""
    cell, low, shape = scene.cell, scene.low, scene.shape
    near, far = clip_axis(ox, dx, low[0], low[0] + shape[0] * cell, 0.0, limit)
    near, far = clip_axis(oy, dy, low[1], low[1] + shape[1] * cell, near, far)
    near, far = clip_axis(oz, dz, low[2], low[2] + shape[2] * cell, near, far)
    best, hit = limit, NOTHING
    if near > far:
        return best, hit
    ix = min(max(int((ox + near * dx - low[0]) / cell), 0), shape[0] - 1)
    iy = min(max(int((oy + near * dy - low[1]) / cell), 0), shape[1] - 1)
    iz = min(max(int((oz + near * dz - low[2]) / cell), 0), shape[2] - 1)
    tx, wx, sx = first_step(ox, dx, ix, low[0], cell)
    ty, wy, sy = first_step(oy, dy, iy, low[1], cell)
    tz, wz, sz = first_step(oz, dz, iz, low[2], cell)
    while True:
        index = (iz * shape[1] + iy) * shape[0] + ix
        for slot in range(scene.starts[index], scene.starts[index + 1]):
            k = scene.items[slot]
            t = enter(scene.kinds, scene.values, k, ox, oy, oz, dx, dy, dz)
            if t < best:
                best, hit = t, k
                if any_hit:
                    return best, hit
        exit_t = min(tx, min(ty, tz))
        if exit_t >= best or exit_t >= far:
            return best, hit
        if tx <= ty and tx <= tz:
            ix, tx = ix + sx, tx + wx
        elif ty <= tz:
            iy, ty = iy + sy, ty + wy
        else:
            iz, tz = iz + sz, tz + wz
        if ix < 0 or iy < 0 or iz < 0 or ix >= shape[0] or iy >= shape[1] or iz >= shape[2]:
            return best, hit


@njit(error_model="numpy")
@no_type_check
def closest_hit(scene, ox, oy, oz, dx, dy, dz, limit):
    """Return the distance to the first surface before `limit` and the index of its solid (or GROUND, or NOTHING)."""
    best, hit = limit, NOTHING
    if dz < 0.0 and -oz / dz < best and oz > 0.0:
        best, hit = -oz / dz, GROUND
    t, k = search(scene, ox, oy, oz, dx, dy, dz, best, False)
    if k >= 0:
        best, hit = t, k
    for k in range(scene.inner, len(scene.kinds)):
        t = enter(scene.kinds, scene.values, k, ox, oy, oz, dx, dy, dz)
        if t < best:
            best, hit = t, k
    return best, hit


@njit(error_model="numpy")
@no_type_check
def any_hit(scene, ox, oy, oz, dx, dy, dz, limit):
    """Whether the ray hits the town before `limit`; hills cast no shadow."""
    if dz < 0.0 and -oz / dz < limit:
        return True
    return search(scene, ox, oy, oz, dx, dy, dz, limit, True)[1] >= 0


@njit(error_model="numpy")
@no_type_check
def closest_car(cars, ox, oy, oz, dx, dy, dz, limit, any_hit):
    """Return distance and index of the first moving solid before `limit`, or of any one if `any_hit`."""
    best, hit = limit, NOTHING
    for i in range(len(cars.spheres)):
        x, y, z = ox - cars.spheres[i, 0], oy - cars.spheres[i, 1], oz - cars.spheres[i, 2]
        along, radius = x * dx + y * dy + z * dz, cars.spheres[i, 3]
        outside = x * x + y * y + z * z - radius * radius
        if outside > 0.0 and (along > 0.0 or along * along < outside):
            continue
        for k in range(cars.starts[i], cars.starts[i + 1]):
            t = enter(cars.kinds, cars.values, k, ox, oy, oz, dx, dy, dz)
            if t < best:
                best, hit = t, k
                if any_hit:
                    return best, hit
    return best, hit


@njit(error_model="numpy")
@no_type_check
def nearest(scene, x, y, z):
    """Return the signed distance to the nearest surface (exact up to SEARCH_RADIUS), its solid and its local normal."""
    best, hit, nx, ny, nz = z, GROUND, 0.0, 0.0, 1.0
    ix = int(np.floor((x - scene.low[0]) / scene.cell))
    iy = int(np.floor((y - scene.low[1]) / scene.cell))
    iz = int(np.floor((z - scene.low[2]) / scene.cell))
    shape = scene.shape
    if 0 <= ix < shape[0] and 0 <= iy < shape[1] and 0 <= iz < shape[2]:
        index = (iz * shape[1] + iy) * shape[0] + ix
        for slot in range(scene.starts[index], scene.starts[index + 1]):
            k = scene.items[slot]
            gap, gx, gy, gz = distance(scene.kinds, scene.values, k, x, y, z)
            if gap < best:
                best, hit, nx, ny, nz = gap, k, gx, gy, gz
        return best, hit, nx, ny, nz
    for k in range(scene.inner, len(scene.kinds)):
        gap, gx, gy, gz = distance(scene.kinds, scene.values, k, x, y, z)
        if gap < best:
            best, hit, nx, ny, nz = gap, k, gx, gy, gz
    return best, hit, nx, ny, nz
