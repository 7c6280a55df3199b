"""Layout of the town: the solids and their positions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from blocknerf.town import street_furniture
from blocknerf.town.buildings import BRICKS, PLASTERS, Building, Face, build, design
from blocknerf.town.solids import BRICK, SHOP, Kind, Material, Solid, Vector
from blocknerf.town.streets import (
    CURB,
    MAIN_END,
    MAIN_FACADE,
    MAIN_HALF,
    SIDE_AT,
    SIDE_END,
    SIDE_FACADE,
    SIDE_HALF,
)

DEPTH = 11.0
"""Depth of the houses along the streets (m)."""
PARK = (-7.0, 7.0)
"""Range of x (m) south of the main street that is a square with trees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TownLayout:
    """All solids, lamps and buildings of the town."""

    solids: tuple[Solid, ...]
    hills: tuple[Solid, ...]
    """Hills around the town."""
    lamps: tuple[Vector, ...]
    """Positions of the lights after sunset."""
    buildings: tuple[Building, ...]


def generate_layout(seed: int, changed_building: int | None) -> TownLayout:
    """Return the layout of a seed, optionally with one building replaced and everything else unchanged."""
    houses = list(_houses(seed))
    if changed_building is not None:
        houses[changed_building] = _rebuild(houses[changed_building])
    lamps = list(_lamp_posts())
    solids = [
        *_islands(),
        *(solid for house in houses for solid in build(house)),
        *(solid for x, y, toward in lamps for solid in street_furniture.lamp(x, y, toward)),
        *_greenery(seed),
        *_square(seed),
        *_street_objects(seed),
        *_church(),
    ]
    lights = tuple(street_furniture.lamp_light(x, y, toward) for x, y, toward in lamps)
    return TownLayout(solids=tuple(solids), hills=tuple(_hills(seed)), lamps=lights, buildings=tuple(houses))


def _rng(seed: int, *key: object) -> Random:
    """Return an independent random generator per key, so that one change leaves other objects alone."""
    return Random("/".join(map(str, (seed, *key))))


def _rebuild(house: Building) -> Building:
    """Return a house with another height, roof and color on the same lot."""
    palette = PLASTERS if house.style & BRICK else BRICKS
    return replace(
        house,
        floors=house.floors + 1 if house.floors < 4 else house.floors - 1,
        roof="flat" if house.roof != "flat" else "gable",
        style=(house.style ^ BRICK) ^ SHOP,
        color=palette[house.seed % len(palette)],
        seed=house.seed + 1,
    )


def _islands() -> Iterator[Solid]:
    west, east = (-MAIN_END, -SIDE_AT - SIDE_HALF), (SIDE_AT + SIDE_HALF, MAIN_END)
    for low, high in (west, (-SIDE_AT + SIDE_HALF, SIDE_AT - SIDE_HALF), east):
        for sign in (-1, 1):
            depth = SIDE_END - MAIN_HALF
            yield Solid(
                kind=Kind.BOX,
                center=((low + high) / 2, sign * (MAIN_HALF + depth / 2), CURB / 2 - 0.2),
                half_size=((high - low) / 2, depth / 2, CURB / 2 + 0.2),
                material=Material.PAVEMENT,
                color=(0.33, 0.31, 0.29),
            )


def _split(low: float, high: float, rng: Random, width: float) -> list[tuple[float, float]]:
    """Split an interval into lots of about `width`."""
    count = max(1, round((high - low) / width))
    widths = [rng.uniform(0.82, 1.18) for _ in range(count)]
    edges = [low]
    for relative in widths:
        edges.append(edges[-1] + (high - low) * relative / sum(widths))
    return list(pairwise(edges))


def _houses(seed: int) -> Iterator[Building]:
    yield from _main_houses(seed)
    yield from _side_houses(seed)
    yield from _end_houses(seed)


def _main_houses(seed: int) -> Iterator[Building]:
    inner = SIDE_AT - SIDE_FACADE
    for sign in (1, -1):
        center = [(-inner, inner)] if sign > 0 else [(-inner, PARK[0]), (PARK[1], inner)]
        for low, high in [(-MAIN_END, -SIDE_AT - SIDE_FACADE), *center, (SIDE_AT + SIDE_FACADE, MAIN_END)]:
            for x0, x1 in _split(low, high, _rng(seed, "lots", sign, low), 9.5):
                faces: list[Face] = ["south" if sign > 0 else "north"]
                faces += ["west"] if x0 == low and abs(low) < 60 else []
                faces += ["east"] if x1 > high - 1e-6 and abs(high) < 60 else []
                rng = _rng(seed, "main", sign, round(x0))
                front, back = MAIN_FACADE + rng.uniform(0.0, 0.35), MAIN_FACADE + DEPTH + rng.uniform(0, 2)
                south, north = sorted((sign * front, sign * back))
                yield design(x0, x1, south, north, tuple(faces), rng, (2, 4))


def _side_houses(seed: int) -> Iterator[Building]:
    start = MAIN_FACADE + DEPTH + 2.5
    for street in (-SIDE_AT, SIDE_AT):
        for side in (-1, 1):
            for sign in (1, -1):
                for y0, y1 in _split(start, SIDE_END, _rng(seed, "lots", street, side, sign), 9.0):
                    rng = _rng(seed, "side", street, side, sign, round(y0))
                    near = street + side * (SIDE_FACADE + rng.uniform(0.0, 0.3))
                    west, east = sorted((near, near + side * 9.0))
                    south, north = sorted((sign * y0, sign * y1))
                    yield design(west, east, south, north, ("east" if side < 0 else "west",), rng, (2, 3))


def _end_houses(seed: int) -> Iterator[Building]:
    """Yield a house across each end of the side streets, and houses across the west end of the main street."""
    for street in (-SIDE_AT, SIDE_AT):
        for sign in (1, -1):
            south, north = sorted((sign * (SIDE_END + 3), sign * (SIDE_END + 12)))
            face: Face = "south" if sign > 0 else "north"
            yield design(street - 7, street + 7, south, north, (face,), _rng(seed, "end", street, sign), (2, 3))
    for sign in (1, -1):
        south, north = sorted((sign * 0.0, sign * 12.0))
        rng = _rng(seed, "west end", sign)
        yield design(-MAIN_END - 16, -MAIN_END - 7, south, north, ("east",), rng, (3, 4))


def _lamp_posts() -> Iterator[tuple[float, float, float]]:
    for x in (-58.0, -44.0, -31.5, -13.0, 1.0, 13.0, 31.5, 44.0, 58.0):
        yield x, MAIN_HALF + 0.45, -1.0
        yield -x, -MAIN_HALF - 0.45, 1.0


def _greenery(seed: int) -> Iterator[Solid]:
    for sign in (1, -1):
        for x in (-64.0, -51.0, -37.5, -9.0, -3.5, 6.5, 37.5, 51.0, 64.0):
            rng = _rng(seed, "tree", sign, x)
            spot = sign * x + rng.uniform(-0.5, 0.5)
            yield from street_furniture.tree(spot, sign * (MAIN_HALF + 1.0), rng, rng.uniform(0.85, 1.08))
    for street in (-SIDE_AT, SIDE_AT):
        for sign in (1, -1):
            for y in (25.0, 35.0):
                rng = _rng(seed, "side tree", street, sign, y)
                x = street + sign * (SIDE_HALF + 0.9)
                yield from street_furniture.tree(x, sign * y, rng, rng.uniform(0.7, 0.85))


def _square(seed: int) -> Iterator[Solid]:
    """Yield a small park with trees, benches and a column at its center."""
    low, high = PARK
    yield Solid(
        kind=Kind.BOX,
        center=((low + high) / 2, -17.5, CURB + 0.02),
        half_size=((high - low) / 2 - 0.8, 7.5, 0.06),
        material=Material.GRASS,
        color=(0.1, 0.2, 0.05),
    )
    for x, y, size in (
        (-4.2, -12.5, 1.2),
        (4.4, -13.0, 1.3),
        (-4.0, -20.5, 1.45),
        (4.0, -21.5, 1.4),
        (0.2, -24.0, 1.5),
    ):
        yield from street_furniture.tree(x, y, _rng(seed, "park", x), size)
    yield Solid(kind=Kind.CYLINDER, center=(0, -14.0, 0.4), half_size=(1.5, 1.5, 0.4), color=(0.45, 0.43, 0.4))
    yield Solid(kind=Kind.CYLINDER, center=(0, -14.0, 2.4), half_size=(0.35, 0.35, 1.7), color=(0.5, 0.48, 0.44))
    yield Solid(kind=Kind.BOX, center=(0, -14.0, 4.2), half_size=(0.55, 0.55, 0.15), color=(0.5, 0.48, 0.44))
    yield Solid(kind=Kind.ELLIPSOID, center=(0, -14.0, 4.85), half_size=(0.5, 0.5, 0.55), color=(0.2, 0.36, 0.3))
    for x in (-3.0, 3.0):
        yield from street_furniture.bench(x, -9.2, 1.0)
    yield from street_furniture.planter(0.0, -9.3, _rng(seed, "planter"))


def _street_objects(seed: int) -> Iterator[Solid]:
    colors = street_furniture.BODIES
    for index, x in enumerate((-60.0, -48.6, -37.2, -9.0, 2.2, 7.8, 35.9, 47.1, 58.4)):
        for sign in (1, -1):
            rng = _rng(seed, "parked", sign, index)
            if rng.random() < 0.45:
                yaw = (180.0 if sign > 0 else 0.0) + rng.uniform(-1.5, 1.5)
                spot = sign * x + rng.uniform(-0.3, 0.3)
                color = colors[rng.randrange(len(colors))]
                yield from street_furniture.car(spot, sign * (MAIN_HALF - 1.02), yaw, color)
    for x, y, yaw in ((-SIDE_AT - 4.4, 8.6, 90.0), (SIDE_AT + 4.4, -8.6, 90.0), (SIDE_AT - 9.5, 5.5, 90.0)):
        yield from street_furniture.sign(x, y, (0.5, 0.04, 0.04), yaw)
    for x, y in ((-SIDE_AT + 9.5, -5.5), (SIDE_AT - 4.2, 8.4)):
        yield from street_furniture.sign(x, y, (0.04, 0.12, 0.45), 90.0)
    for x, y in ((-12.0, 7.2), (11.0, -7.2), (30.0, 7.2), (-33.0, -7.2)):
        yield from street_furniture.litter_bin(x, y)
    for x, y in ((-11.0, 7.3), (40.0, 7.3), (-42.0, -7.3), (33.0, -7.3)):
        yield from street_furniture.planter(x + 2.0, y, _rng(seed, "planter", x))


def _church() -> Iterator[Solid]:
    """Yield the church at the east end: a tower with a clock and a spire, and the nave behind it."""
    x, wall = MAIN_END + 10.0, (0.55, 0.5, 0.4)
    yield Solid(
        kind=Kind.BOX, center=(x, 0, 11.0), half_size=(3.2, 3.2, 11.0), color=wall, material=Material.PLAIN, seed=4
    )
    yield Solid(
        kind=Kind.BOX, center=(x, 0, 18.5), half_size=(3.3, 3.3, 2.6), color=wall, material=Material.CLOCK, seed=5
    )
    yield Solid(kind=Kind.BOX, center=(x, 0, 15.8), half_size=(3.5, 3.5, 0.2), color=(0.5, 0.47, 0.4))
    yield Solid(kind=Kind.BOX, center=(x, 0, 22.2), half_size=(3.6, 3.6, 0.2), color=(0.5, 0.47, 0.4))
    yield Solid(
        kind=Kind.FRUSTUM,
        center=(x, 0, 27.4),
        half_size=(3.4, 3.4, 5.0),
        taper=(0.05, 0.05),
        color=(0.13, 0.21, 0.19),
        material=Material.ROOF,
    )
    yield Solid(kind=Kind.BOX, center=(x - 3.2, 0, 1.6), half_size=(0.15, 1.1, 1.6), color=(0.16, 0.09, 0.05))
    yield Solid(kind=Kind.BOX, center=(x + 13, 0, 5.0), half_size=(10.0, 6.0, 5.0), color=wall, seed=6)
    yield Solid(
        kind=Kind.FRUSTUM,
        center=(x + 13, 0, 12.5),
        half_size=(10.3, 6.4, 2.5),
        taper=(10.3, 0.05),
        color=(0.33, 0.13, 0.08),
        accent=wall,
        material=Material.ROOF,
    )


def _hills(seed: int) -> Iterator[Solid]:
    spots = (
        *((x, y, 60.0) for x, y in ((190, 60), (205, -50), (165, 140), (150, -150))),
        *((x, y, 75.0) for x, y in ((0, 205), (70, 215), (-90, 200), (20, -205), (-80, -200), (95, -190))),
        *((x, y, 65.0) for x, y in ((-200, 40), (-195, -70), (-170, 130), (-150, -165), (-215, -10))),
    )
    for index, (x, y, radius) in enumerate(spots):
        rng = _rng(seed, "hill", index)
        haze = rng.uniform(0.0, 0.5)
        yield Solid(
            kind=Kind.ELLIPSOID,
            center=(float(x), float(y), -4.0),
            half_size=(radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.2), rng.uniform(20.0, 32.0)),
            color=(0.11 + 0.06 * haze, 0.17 + 0.03 * haze, 0.09 + 0.12 * haze),
            material=Material.HILL,
            seed=index,
        )
