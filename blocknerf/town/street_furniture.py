"""Street furniture: trees, lamps, benches, signs, bins and cars."""

from collections.abc import Iterator
from math import cos, radians, sin
from random import Random

from blocknerf.town.solids import Kind, Material, Solid, Vector
from blocknerf.town.streets import CURB

IRON: Vector = (0.07, 0.08, 0.085)
WOOD: Vector = (0.26, 0.15, 0.075)
BODIES: tuple[Vector, ...] = (
    (0.42, 0.05, 0.045),
    (0.07, 0.16, 0.38),
    (0.62, 0.62, 0.61),
    (0.10, 0.11, 0.12),
    (0.25, 0.30, 0.30),
    (0.55, 0.42, 0.12),
    (0.08, 0.24, 0.16),
)


def tree(x: float, y: float, rng: Random, size: float = 1.0, base: float = CURB) -> Iterator[Solid]:
    """Yield a tree: a trunk and a crown of overlapping ellipsoids."""
    green = (0.075 + 0.03 * rng.random(), 0.165 + 0.04 * rng.random(), 0.035)
    warm = (green[0] * 1.9, green[1] * 1.35, green[2] * 1.2)
    trunk = 2.7 * size
    yield Solid(
        kind=Kind.CYLINDER,
        center=(x, y, base + trunk / 2),
        half_size=(0.15 * size, 0.15 * size, trunk / 2),
        color=(0.19, 0.13, 0.085),
        material=Material.BARK,
    )
    start = rng.uniform(0.0, 360.0)
    lumps = [
        (0.0, 0.0, 1.5, 1.25),
        *((start + angle, 0.75, 0.7 + 0.5 * rng.random(), 1.0) for angle in range(0, 360, 72)),
    ]
    for angle, out, up, wide in (*lumps, (start, 0.25, 2.3, 0.85)):
        distance = out * size * rng.uniform(0.85, 1.1)
        radius = wide * size * rng.uniform(0.9, 1.1)
        yield Solid(
            kind=Kind.ELLIPSOID,
            center=(x + distance * cos(radians(angle)), y + distance * sin(radians(angle)), base + trunk + up * size),
            half_size=(radius, radius, radius * 0.82),
            color=green,
            accent=warm,
            material=Material.LEAVES,
            seed=rng.randrange(1000),
        )


def lamp(x: float, y: float, toward: float) -> Iterator[Solid]:
    """Yield a lamp post with its arm over the street (`toward`: +1 or -1 along y)."""
    yield Solid(kind=Kind.CYLINDER, center=(x, y, CURB + 0.4), half_size=(0.13, 0.13, 0.4), color=IRON)
    yield Solid(kind=Kind.CYLINDER, center=(x, y, CURB + 2.4), half_size=(0.065, 0.065, 2.4), color=IRON)
    yield Solid(kind=Kind.BOX, center=(x, y + 0.5 * toward, CURB + 4.78), half_size=(0.04, 0.5, 0.04), color=IRON)
    yield Solid(
        kind=Kind.FRUSTUM,
        center=(x, y + toward, CURB + 4.68),
        half_size=(0.26, 0.26, 0.1),
        taper=(0.1, 0.1),
        color=IRON,
    )
    yield Solid(
        kind=Kind.ELLIPSOID,
        center=(x, y + toward, CURB + 4.55),
        half_size=(0.17, 0.17, 0.14),
        color=(0.75, 0.72, 0.65),
        material=Material.LAMP,
    )


def lamp_light(x: float, y: float, toward: float) -> Vector:
    """Return the position of the light of a lamp."""
    return x, y + toward, CURB + 4.3


def bench(x: float, y: float, toward: float) -> Iterator[Solid]:
    """Yield a bench along x that faces y (`toward`: +1 or -1)."""
    yield Solid(kind=Kind.BOX, center=(x, y, CURB + 0.45), half_size=(0.9, 0.22, 0.035), color=WOOD)
    yield Solid(kind=Kind.BOX, center=(x, y - 0.22 * toward, CURB + 0.75), half_size=(0.9, 0.03, 0.18), color=WOOD)
    for side in (-0.7, 0.7):
        yield Solid(kind=Kind.BOX, center=(x + side, y, CURB + 0.22), half_size=(0.04, 0.2, 0.22), color=IRON)


def sign(x: float, y: float, color: Vector, yaw: float) -> Iterator[Solid]:
    """Yield a round traffic sign on a pole."""
    yield Solid(
        kind=Kind.CYLINDER, center=(x, y, CURB + 1.25), half_size=(0.035, 0.035, 1.25), color=(0.35, 0.36, 0.37)
    )
    yield Solid(
        kind=Kind.AXLE, center=(x, y, CURB + 2.45), half_size=(0.33, 0.03, 0.33), color=(0.72, 0.72, 0.72), yaw=yaw
    )
    yield Solid(kind=Kind.AXLE, center=(x, y, CURB + 2.45), half_size=(0.26, 0.04, 0.26), color=color, yaw=yaw)


def litter_bin(x: float, y: float) -> Iterator[Solid]:
    """Yield a litter bin."""
    yield Solid(kind=Kind.CYLINDER, center=(x, y, CURB + 0.45), half_size=(0.24, 0.24, 0.45), color=(0.08, 0.2, 0.12))
    yield Solid(kind=Kind.CYLINDER, center=(x, y, CURB + 0.93), half_size=(0.27, 0.27, 0.05), color=IRON)


def planter(x: float, y: float, rng: Random) -> Iterator[Solid]:
    """Yield a stone planter with a bush."""
    yield Solid(kind=Kind.BOX, center=(x, y, CURB + 0.25), half_size=(0.8, 0.35, 0.25), color=(0.42, 0.4, 0.37))
    for offset in (-0.4, 0.1, 0.45):
        bloom = (0.30 + 0.2 * rng.random(), 0.12, 0.14) if offset else (0.1, 0.2, 0.05)
        yield Solid(
            kind=Kind.ELLIPSOID,
            center=(x + offset, y, CURB + 0.62),
            half_size=(0.36, 0.32, 0.28),
            color=(0.09, 0.19, 0.05),
            accent=bloom,
            material=Material.LEAVES,
            seed=rng.randrange(1000),
        )


def car(x: float, y: float, yaw: float, color: Vector) -> Iterator[Solid]:
    """Yield a car on the road at (x, y) with heading `yaw` (degrees)."""
    c, s = cos(radians(yaw)), sin(radians(yaw))

    def part(kind: Kind, along: float, across: float, up: float, half: Vector, paint: Vector, **fields) -> Solid:
        center = (x + c * along - s * across, y + s * along + c * across, up)
        return Solid(kind=kind, center=center, half_size=half, color=paint, yaw=yaw, **fields)

    yield part(Kind.BOX, 0.0, 0.0, 0.52, (2.1, 0.86, 0.24), color)
    yield part(Kind.FRUSTUM, 0.0, 0.0, 0.83, (2.08, 0.86, 0.08), color, taper=(1.95, 0.8))
    yield part(Kind.FRUSTUM, -0.2, 0.0, 1.16, (1.35, 0.8, 0.27), color, taper=(0.85, 0.66), material=Material.CABIN)
    yield part(Kind.BOX, 0.0, 0.0, 0.36, (2.16, 0.82, 0.1), (0.05, 0.05, 0.055))
    for along in (-1.3, 1.35):
        for across in (-0.8, 0.8):
            yield part(Kind.AXLE, along, across, 0.33, (0.33, 0.1, 0.33), (0.035, 0.035, 0.035))
            yield part(Kind.AXLE, along, across, 0.33, (0.18, 0.115, 0.18), (0.4, 0.4, 0.41))
    for across in (-0.62, 0.62):
        yield part(Kind.BOX, 2.09, across, 0.62, (0.03, 0.17, 0.07), (0.75, 0.74, 0.7))
        yield part(Kind.BOX, -2.09, across, 0.62, (0.03, 0.17, 0.08), (0.5, 0.03, 0.03))
