"""Houses: walls, roofs, ledges, sills, awnings, chimneys."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from blocknerf.town.solids import BRICK, QUOINS, SHOP, SHUTTERS, Kind, Material, Solid, Vector
from blocknerf.town.streets import CURB

Roof = Literal["gable", "hip", "flat", "front"]
"""`gable`: ridge along the longer side; `front`: the gable faces the street."""
Face = Literal["north", "south", "east", "west"]

GROUND_FLOOR, FLOOR, BAY = 3.5, 3.0, 2.8
"""Heights of the ground floor and of upper floors; width of a window bay (m)."""
STONE: Vector = (0.55, 0.52, 0.45)

PLASTERS: tuple[Vector, ...] = (
    (0.62, 0.47, 0.24),
    (0.58, 0.30, 0.20),
    (0.60, 0.55, 0.44),
    (0.42, 0.50, 0.40),
    (0.36, 0.45, 0.55),
    (0.66, 0.62, 0.54),
    (0.62, 0.38, 0.33),
    (0.55, 0.52, 0.30),
)
BRICKS: tuple[Vector, ...] = ((0.34, 0.12, 0.075), (0.40, 0.19, 0.11), (0.27, 0.105, 0.08), (0.44, 0.27, 0.16))
DOORS: tuple[Vector, ...] = (
    (0.05, 0.16, 0.11),
    (0.28, 0.05, 0.05),
    (0.06, 0.12, 0.26),
    (0.20, 0.10, 0.045),
    (0.09, 0.24, 0.25),
    (0.33, 0.20, 0.05),
)
TILES: tuple[Vector, ...] = ((0.37, 0.135, 0.07), (0.31, 0.12, 0.08), (0.12, 0.125, 0.14), (0.42, 0.19, 0.10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """One house on its lot; lengths in meters."""

    west: float
    east: float
    south: float
    north: float
    faces: tuple[Face, ...]
    """Sides that face a street."""
    floors: int
    roof: Roof
    style: int
    """Style bits of the facade (`solids`)."""
    color: Vector
    accent: Vector
    tiles: Vector
    seed: int

    @property
    def height(self) -> float:
        return GROUND_FLOOR + FLOOR * (self.floors - 1) + 0.5

    @property
    def center(self) -> tuple[float, float]:
        return (self.west + self.east) / 2, (self.south + self.north) / 2

    @property
    def half(self) -> tuple[float, float]:
        return (self.east - self.west) / 2, (self.north - self.south) / 2


def design(
    west: float, east: float, south: float, north: float, faces: tuple[Face, ...], rng: Random, floors: tuple[int, int]
) -> Building:
    """Return a random house for a lot."""
    is_brick = rng.random() < 0.4
    style = BRICK if is_brick else 0
    style |= QUOINS if rng.random() < 0.4 else 0
    style |= SHUTTERS if rng.random() < (0.15 if is_brick else 0.5) else 0
    style |= SHOP if rng.random() < 0.45 else 0
    roofs: tuple[Roof, ...] = ("gable", "gable", "hip", "flat", "front")
    palette = BRICKS if is_brick else PLASTERS
    return Building(
        west=west,
        east=east,
        south=south,
        north=north,
        faces=faces,
        floors=rng.randint(*floors),
        roof=roofs[rng.randrange(len(roofs))],
        style=style,
        color=palette[rng.randrange(len(palette))],
        accent=DOORS[rng.randrange(len(DOORS))],
        tiles=TILES[rng.randrange(len(TILES))],
        seed=rng.randrange(10_000),
    )


def build(house: Building) -> Iterator[Solid]:
    """Yield the solids of a house."""
    (x, y), (hx, hy), top = house.center, house.half, house.height
    yield Solid(
        kind=Kind.BOX,
        center=(x, y, top / 2),
        half_size=(hx, hy, top / 2),
        material=Material.FACADE,
        color=house.color,
        accent=house.accent,
        seed=house.seed,
        style=house.style,
        floors=house.floors,
    )
    yield _ledge(house, top - 0.12, 0.14, 0.3)
    yield _ledge(house, GROUND_FLOOR + 0.06, 0.07, 0.1)
    yield from _roof(house)
    for face in house.faces:
        yield from _front(house, face)


def _ledge(house: Building, height: float, half_height: float, overhang: float) -> Solid:
    (x, y), (hx, hy) = house.center, house.half
    return Solid(
        kind=Kind.BOX,
        center=(x, y, height),
        half_size=(hx + overhang, hy + overhang, half_height),
        color=STONE,
        seed=house.seed,
    )


def _roof(house: Building) -> Iterator[Solid]:
    if house.roof == "flat":
        yield from _parapet(house)
        return
    (x, y), (hx, hy), top = house.center, house.half, house.height
    along_x = (hx >= hy) != (house.roof == "front")
    length, depth = (hx, hy) if along_x else (hy, hx)
    rise = min(0.85 * depth, 4.2)
    ridge = length + 0.25 if house.roof != "hip" else max(length - depth, 0.3)
    yield Solid(
        kind=Kind.FRUSTUM,
        center=(x, y, top + rise / 2),
        half_size=(length + 0.25, depth + 0.38, rise / 2),
        taper=(ridge, 0.02),
        material=Material.ROOF,
        color=house.tiles,
        accent=house.color,
        yaw=0.0 if along_x else 90.0,
        seed=house.seed,
        style=int(house.tiles[0] < 0.2),
    )
    yield from _chimney(house, along_x, length, top + rise)


def _chimney(house: Building, along_x: bool, length: float, ridge: float) -> Iterator[Solid]:
    (x, y), offset = house.center, (0.45 if house.seed % 2 else -0.5) * length
    spot = (x + offset, y + 0.6) if along_x else (x + 0.6, y + offset)
    yield Solid(
        kind=Kind.BOX, center=(*spot, ridge), half_size=(0.38, 0.38, 1.1), color=(0.30, 0.14, 0.10), seed=house.seed
    )
    yield Solid(kind=Kind.BOX, center=(*spot, ridge + 1.15), half_size=(0.46, 0.46, 0.08), color=STONE)


def _parapet(house: Building) -> Iterator[Solid]:
    (x, y), (hx, hy), top = house.center, house.half, house.height
    for sign in (-1, 1):
        yield Solid(
            kind=Kind.BOX,
            center=(x, y + sign * (hy - 0.1), top + 0.4),
            half_size=(hx + 0.1, 0.2, 0.4),
            color=house.color,
        )
        yield Solid(
            kind=Kind.BOX,
            center=(x + sign * (hx - 0.1), y, top + 0.4),
            half_size=(0.2, hy + 0.1, 0.4),
            color=house.color,
        )
    yield Solid(kind=Kind.BOX, center=(x + hx * 0.3, y, top + 0.9), half_size=(1.3, 1.6, 0.9), color=(0.4, 0.38, 0.36))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wall:
    """Center, direction and outward normal of a street front."""

    center: tuple[float, float]
    along: tuple[float, float]
    outward: tuple[float, float]
    length: float

    def box(self, along: float, out: float, height: float, half: Vector, color: Vector, **fields) -> Solid:
        """Return a box on the wall; half sizes are along the wall, outward and up."""
        x = self.center[0] + along * self.along[0] + out * self.outward[0]
        y = self.center[1] + along * self.along[1] + out * self.outward[1]
        size = (half[0], half[1], half[2]) if self.along[0] else (half[1], half[0], half[2])
        return Solid(kind=Kind.BOX, center=(x, y, height), half_size=size, color=color, **fields)


def _wall(house: Building, face: Face) -> _Wall:
    (x, y), (hx, hy) = house.center, house.half
    sign = 1.0 if face in ("north", "east") else -1.0
    if face in ("north", "south"):
        return _Wall(center=(x, y + sign * hy), along=(1.0, 0.0), outward=(0.0, sign), length=2 * hx)
    return _Wall(center=(x + sign * hx, y), along=(0.0, 1.0), outward=(sign, 0.0), length=2 * hy)


def _front(house: Building, face: Face) -> Iterator[Solid]:
    wall = _wall(house, face)
    count = max(1, int(wall.length / BAY + 0.5))
    span = wall.length / count
    for level in range(house.floors - 1):
        base = GROUND_FLOOR + FLOOR * level
        for bay in range(count):
            yield wall.box((bay + 0.5) * span - wall.length / 2, 0.08, base + 0.66, (0.72, 0.14, 0.07), STONE)
    if house.style & SHOP:
        yield wall.box(
            0.0,
            0.55,
            2.72,
            (wall.length / 2 - 0.3, 0.6, 0.06),
            (0.6, 0.57, 0.5),
            accent=house.accent,
            material=Material.STRIPES,
        )
    elif house.seed % 3 == 0 and house.floors > 2:
        yield from _balcony(wall, GROUND_FLOOR + FLOOR * (house.floors - 3) + FLOOR, span)
    yield wall.box(0.0, 0.06, CURB + 0.2, (wall.length / 2, 0.08, 0.22), (0.27, 0.26, 0.25))


def _balcony(wall: _Wall, floor: float, span: float) -> Iterator[Solid]:
    iron = (0.06, 0.065, 0.07)
    yield wall.box(0.0, 0.5, floor + 0.1, (span * 0.9, 0.55, 0.09), STONE)
    yield wall.box(0.0, 1.0, floor + 1.0, (span * 0.9, 0.03, 0.04), iron)
    for step in range(-4, 5):
        yield wall.box(step * span * 0.22, 1.0, floor + 0.6, (0.025, 0.025, 0.4), iron)
