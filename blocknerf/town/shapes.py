"""Closed-form ray intersections and signed distances of solids (Numba)."""

from math import sqrt
from typing import no_type_check

from numba import njit

from blocknerf.town.solids import CENTER, HALF_SIZE, TAPER, YAW, Kind

# Plain integers: kernels cannot use enumerations.
BOX, ELLIPSOID, CYLINDER, AXLE, FRUSTUM = (int(kind) for kind in Kind)
NO_HIT = 1e30


@njit(error_model="numpy")
@no_type_check
def to_local(values, k, x, y, z):
    """Rotate a world vector into the axes of the solid."""
    c, s = values[k, YAW], values[k, YAW + 1]
    return c * x + s * y, c * y - s * x, z


@njit(error_model="numpy")
@no_type_check
def to_world(values, k, x, y, z):
    """Rotate a vector in the axes of the solid into the world."""
    c, s = values[k, YAW], values[k, YAW + 1]
    return c * x - s * y, s * x + c * y, z


@njit(error_model="numpy")
@no_type_check
def slab(o, d, h, near, far):
    """Clip a ray interval to coordinates in -h..h."""
    inverse = 1.0 / d if abs(d) > 1e-12 else 1e12
    a, b = (-h - o) * inverse, (h - o) * inverse
    return max(near, min(a, b)), min(far, max(a, b))


@njit(error_model="numpy")
@no_type_check
def disc(a, b, c, near, far):
    """Clip an interval to where a t^2 + 2 b t + c is negative (a > 0); it may become empty."""
    if a < 1e-18:
        return (near, far) if c < 0.0 else (NO_HIT, -NO_HIT)
    root = b * b - a * c
    if root <= 0.0:
        return NO_HIT, -NO_HIT
    root = sqrt(root)
    return max(near, (-b - root) / a), min(far, (-b + root) / a)


@njit(error_model="numpy")
@no_type_check
def half_space(nx, nz, offset, o, oz, d, dz, near, far):
    """Clip an interval to nx x + nz z <= offset."""
    rate = nx * d + nz * dz
    gap = offset - nx * o - nz * oz
    if abs(rate) < 1e-14:
        return (near, far) if gap >= 0.0 else (NO_HIT, -NO_HIT)
    t = gap / rate
    return (near, min(far, t)) if rate > 0.0 else (max(near, t), far)


@njit(error_model="numpy")
@no_type_check
def frustum(ox, oy, oz, dx, dy, dz, hx, hy, hz, tx, ty):
    """Return the interval of a ray inside a frustum."""
    near, far = slab(oz, dz, hz, -NO_HIT, NO_HIT)
    rise, lean = 2.0 * hz, hx - tx
    offset = rise * hx - lean * hz
    near, far = half_space(rise, lean, offset, ox, oz, dx, dz, near, far)
    near, far = half_space(rise, lean, offset, -ox, oz, -dx, dz, near, far)
    lean = hy - ty
    offset = rise * hy - lean * hz
    near, far = half_space(rise, lean, offset, oy, oz, dy, dz, near, far)
    return half_space(rise, lean, offset, -oy, oz, -dy, dz, near, far)


@njit(error_model="numpy")
@no_type_check
def enter(kinds, values, k, ox, oy, oz, dx, dy, dz):
    """Return the distance at which a ray enters solid k from outside, or NO_HIT."""
    kind = kinds[k]
    hx, hy, hz = values[k, HALF_SIZE], values[k, HALF_SIZE + 1], values[k, HALF_SIZE + 2]
    ox, oy, oz = to_local(values, k, ox - values[k, CENTER], oy - values[k, CENTER + 1], oz - values[k, CENTER + 2])
    dx, dy, dz = to_local(values, k, dx, dy, dz)
    if kind == BOX:
        near, far = slab(ox, dx, hx, -NO_HIT, NO_HIT)
        near, far = slab(oy, dy, hy, near, far)
        near, far = slab(oz, dz, hz, near, far)
    elif kind == ELLIPSOID:
        px, py, pz, qx, qy, qz = ox / hx, oy / hy, oz / hz, dx / hx, dy / hy, dz / hz
        a, b, c = qx * qx + qy * qy + qz * qz, px * qx + py * qy + pz * qz, px * px + py * py + pz * pz - 1.0
        near, far = disc(a, b, c, -NO_HIT, NO_HIT)
    elif kind == CYLINDER:
        near, far = slab(oz, dz, hz, -NO_HIT, NO_HIT)
        near, far = disc(dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - hx * hx, near, far)
    elif kind == AXLE:
        near, far = slab(oy, dy, hy, -NO_HIT, NO_HIT)
        near, far = disc(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - hx * hx, near, far)
    else:
        near, far = frustum(ox, oy, oz, dx, dy, dz, hx, hy, hz, values[k, TAPER], values[k, TAPER + 1])
    return near if near <= far and near > 0.0 else NO_HIT


@njit(error_model="numpy")
@no_type_check
def box_distance(x, y, z, hx, hy, hz):
    """Return signed distance and outward normal of a box; the normal is that of the nearest face."""
    qx, qy, qz = abs(x) - hx, abs(y) - hy, abs(z) - hz
    ax, ay, az = max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)
    distance = sqrt(ax * ax + ay * ay + az * az) + min(max(qx, max(qy, qz)), 0.0)
    if qx >= qy and qx >= qz:
        return distance, 1.0 if x > 0 else -1.0, 0.0, 0.0
    if qy >= qz:
        return distance, 0.0, 1.0 if y > 0 else -1.0, 0.0
    return distance, 0.0, 0.0, 1.0 if z > 0 else -1.0


@njit(error_model="numpy")
@no_type_check
def round_distance(x, y, z, radius, half):
    """Return signed distance and outward normal of an upright cylinder."""
    around = sqrt(x * x + y * y)
    q, cap = around - radius, abs(z) - half
    a, b = max(q, 0.0), max(cap, 0.0)
    distance = sqrt(a * a + b * b) + min(max(q, cap), 0.0)
    if q >= cap:
        scale = 1.0 / max(around, 1e-9)
        return distance, x * scale, y * scale, 0.0
    return distance, 0.0, 0.0, 1.0 if z > 0 else -1.0


@njit(error_model="numpy")
@no_type_check
def frustum_distance(x, y, z, hx, hy, hz, tx, ty):
    """Return signed distance (a lower bound outside the edges) and outward normal of a frustum."""
    best, nx, ny, nz = abs(z) - hz, 0.0, 0.0, 1.0 if z > 0 else -1.0
    length = sqrt(4.0 * hz * hz + (hx - tx) * (hx - tx))
    rise, lean = 2.0 * hz / length, (hx - tx) / length
    d = rise * (abs(x) - hx) + lean * (z + hz)
    if d > best:
        best, nx, ny, nz = d, rise if x > 0 else -rise, 0.0, lean
    length = sqrt(4.0 * hz * hz + (hy - ty) * (hy - ty))
    rise, lean = 2.0 * hz / length, (hy - ty) / length
    d = rise * (abs(y) - hy) + lean * (z + hz)
    if d > best:
        best, nx, ny, nz = d, 0.0, rise if y > 0 else -rise, lean
    return best, nx, ny, nz


@njit(error_model="numpy")
@no_type_check
def ellipsoid_distance(x, y, z, hx, hy, hz):
    """Return signed distance (first order, exact at the surface) and outward normal of an ellipsoid."""
    px, py, pz = x / hx, y / hy, z / hz
    gx, gy, gz = px / hx, py / hy, pz / hz
    level, gradient = sqrt(px * px + py * py + pz * pz), sqrt(gx * gx + gy * gy + gz * gz)
    if gradient < 1e-12:
        return -min(hx, min(hy, hz)), 0.0, 0.0, 1.0
    return level * (level - 1.0) / gradient, gx / gradient, gy / gradient, gz / gradient


@njit(error_model="numpy")
@no_type_check
def distance(kinds, values, k, x, y, z):
    """Return the signed distance of a world point to solid k (negative inside) and the local outward normal."""
    kind = kinds[k]
    hx, hy, hz = values[k, HALF_SIZE], values[k, HALF_SIZE + 1], values[k, HALF_SIZE + 2]
    x, y, z = to_local(values, k, x - values[k, CENTER], y - values[k, CENTER + 1], z - values[k, CENTER + 2])
    if kind == BOX:
        return box_distance(x, y, z, hx, hy, hz)
    if kind == ELLIPSOID:
        return ellipsoid_distance(x, y, z, hx, hy, hz)
    if kind == CYLINDER:
        return round_distance(x, y, z, hx, hz)
    if kind == AXLE:
        gap, nx, nz, ny = round_distance(x, z, y, hx, hy)
        return gap, nx, ny, nz
    return frustum_distance(x, y, z, hx, hy, hz, values[k, TAPER], values[k, TAPER + 1])
