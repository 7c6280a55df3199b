"""Solids of the town, and their arrays for the kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import cos, radians, sin

import numpy as np
from jaxtyping import Float, Int

Vector = tuple[float, float, float]


class Kind(IntEnum):
    """Shapes with closed-form ray intersections, centered in their own axes."""

    BOX = 0
    ELLIPSOID = 1
    CYLINDER = 2
    """Upright."""
    AXLE = 3
    """A cylinder along its own y axis."""
    FRUSTUM = 4
    """A rectangle below and a smaller one (`taper`) above: roofs, spires, car cabins."""


class Material(IntEnum):
    """Surface material of a solid."""

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


# Columns of `SolidArrays.values`; plain integers are constants in kernels.
CENTER, HALF_SIZE, YAW, COLOR, ACCENT, TAPER, SEED, STYLE, FLOORS, COLUMNS = 0, 3, 6, 8, 11, 14, 16, 17, 18, 19

# Bits of a facade's `style`.
BRICK, QUOINS, SHUTTERS, SHOP = 1, 2, 4, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One convex solid; lengths in meters, colors are linear albedo in 0..1."""

    kind: Kind
    center: Vector
    half_size: Vector
    """Half sizes along its own axes."""
    material: Material = Material.PLAIN
    color: Vector
    accent: Vector = (0.5, 0.5, 0.5)
    """Second color: doors and shutters of a facade, the wall below a gable, stripes."""
    yaw: float = 0.0
    """Rotation about the vertical axis, counterclockwise (degrees)."""
    taper: tuple[float, float] = (0.0, 0.0)
    """Half sizes of the upper rectangle of a frustum."""
    seed: int = 0
    style: int = 0
    floors: int = 0

    def row(self) -> list[float]:
        """Return all numbers in the order of the columns."""
        rotation = (cos(radians(self.yaw)), sin(radians(self.yaw)))
        return [
            *(*self.center, *self.half_size, *rotation, *self.color, *self.accent, *self.taper),
            *(float(self.seed), float(self.style), float(self.floors)),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SolidArrays:
    """Solids as arrays."""

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
        """Return lower and upper corners of the axis-aligned bounding boxes."""
        center, half = self.values[:, CENTER : CENTER + 3], self.values[:, HALF_SIZE : HALF_SIZE + 3]
        cosine, sine = np.abs(self.values[:, YAW]), np.abs(self.values[:, YAW + 1])
        extent = np.stack(
            [cosine * half[:, 0] + sine * half[:, 1], sine * half[:, 0] + cosine * half[:, 1], half[:, 2]], -1
        )
        return center - extent, center + extent
