"""The solids a town is built of, and their packing into arrays for the kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import cos, radians, sin

import numpy as np
from jaxtyping import Float, Int

Vector = tuple[float, float, float]


class Kind(IntEnum):
    """Shapes that a ray meets in closed form, around their center in their own axes."""

    BOX = 0
    ELLIPSOID = 1
    CYLINDER = 2
    """Upright."""
    AXLE = 3
    """A cylinder that lies along its own y axis."""
    FRUSTUM = 4
    """A rectangle below, a smaller one (`top`) above: gabled and hipped roofs, spires, the cabin of a car."""


class Material(IntEnum):
    """How a solid's surface is painted."""

    PLAIN = 0
    FACADE = 1
    ROOF = 2
    PAVEMENT = 3
    LEAVES = 4
    BARK = 5
    CABIN = 6
    LAMP = 7
    STRIPES = 8
    GRASS = 9
    HILL = 10
    CLOCK = 11


# Columns of `SolidTable.values`; plain integers, so that the kernels see constants.
CENTER, HALF, TURN, COLOR, ACCENT, TOP, SEED, STYLE, FLOORS, COLUMNS = 0, 3, 6, 8, 11, 14, 16, 17, 18, 19

# Bits of a facade's `style`.
BRICK, QUOINS, SHUTTERS, SHOP = 1, 2, 4, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One convex solid; lengths in metres, colours as linear albedo in 0..1."""

    kind: Kind
    center: Vector
    half_size: Vector
    """Half its size along its own axes."""
    material: Material = Material.PLAIN
    color: Vector
    accent: Vector = (0.5, 0.5, 0.5)
    """A second colour: doors and shutters of a facade, the wall under a gable, stripes."""
    yaw: float = 0.0
    """Turn about the vertical, in degrees, counter-clockwise."""
    taper: tuple[float, float] = (0.0, 0.0)
    """Half size of a frustum's upper rectangle."""
    seed: int = 0
    style: int = 0
    floors: int = 0

    def row(self) -> list[float]:
        """Its numbers in the order of the columns."""
        turn = (cos(radians(self.yaw)), sin(radians(self.yaw)))
        return [
            *(*self.center, *self.half_size, *turn, *self.color, *self.accent, *self.taper),
            *(float(self.seed), float(self.style), float(self.floors)),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SolidArrays:
    """Many solids as arrays."""

    kinds: Int[np.ndarray, "solids"]
    materials: Int[np.ndarray, "solids"]
    values: Float[np.ndarray, "solids columns"]

    @classmethod
    def pack(cls, solids: Sequence[Solid]) -> "SolidArrays":
        return cls(
            kinds=np.array([solid.kind for solid in solids], np.int64),
            materials=np.array([solid.material for solid in solids], np.int64),
            values=np.array([solid.row() for solid in solids], np.float64).reshape(-1, COLUMNS),
        )

    def bounds(self) -> tuple[Float[np.ndarray, "solids 3"], Float[np.ndarray, "solids 3"]]:
        """Lower and upper corners of the axis-aligned boxes around the solids."""
        center, half = self.values[:, CENTER : CENTER + 3], self.values[:, HALF : HALF + 3]
        across, along = np.abs(self.values[:, TURN]), np.abs(self.values[:, TURN + 1])
        reach = np.stack(
            [across * half[:, 0] + along * half[:, 1], along * half[:, 0] + across * half[:, 1], half[:, 2]], -1
        )
        return center - reach, center + reach
