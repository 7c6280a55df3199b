"""Lighting of the town by time of day: sun, sky, lamps and exposure."""

from dataclasses import dataclass, fields
from math import cos, radians, sin
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from blocknerf.town.solids import Vector

TimeOfDay = Literal["noon", "dusk", "overcast"]
TIMES_OF_DAY: tuple[TimeOfDay, ...] = get_args(TimeOfDay)


@dataclass(frozen=True, slots=True, kw_only=True)
class LightingCondition:
    """Lighting of one time of day; colors are linear radiance, about 0.2 for middle gray at exposure 1000."""

    sun: Vector
    """Unit vector toward the sun."""
    sunlight: Vector
    """Zero if the sun is hidden and casts no shadow."""
    skylight: Vector
    bounce: Vector
    """Light from the ground onto downward-facing surfaces."""
    zenith: Vector
    horizon: Vector
    halo: Vector
    """Glow of the sky around the sun."""
    cloud: Vector
    cloudiness: float
    lamps: float
    """Strength of street lights and lit windows."""

    def row(self) -> list[float]:
        """Return all numbers in the order of the fields."""
        values = [getattr(self, field.name) for field in fields(self)]
        return [number for value in values for number in (value if isinstance(value, tuple) else (value,))]


def toward(azimuth: float, elevation: float) -> Vector:
    """Return the unit vector toward a point of the sky; degrees, azimuth clockwise from north."""
    a, e = radians(azimuth), radians(elevation)
    return sin(a) * cos(e), cos(a) * cos(e), sin(e)


LIGHTINGS: dict[TimeOfDay, LightingCondition] = {
    "noon": LightingCondition(
        sun=toward(218.0, 46.0),
        sunlight=(12.5, 11.4, 9.5),
        skylight=(2.6, 3.1, 3.9),
        bounce=(1.5, 1.35, 1.1),
        zenith=(0.75, 1.55, 3.6),
        horizon=(3.3, 4.1, 5.0),
        halo=(2.0, 1.9, 1.6),
        cloud=(5.5, 5.5, 5.6),
        cloudiness=0.55,
        lamps=0.0,
    ),
    "dusk": LightingCondition(
        sun=toward(262.0, 13.0),
        sunlight=(1.75, 0.95, 0.42),
        skylight=(0.52, 0.52, 0.74),
        bounce=(0.2, 0.15, 0.13),
        zenith=(0.14, 0.2, 0.5),
        horizon=(0.9, 0.55, 0.42),
        halo=(1.5, 0.75, 0.25),
        cloud=(0.8, 0.42, 0.4),
        cloudiness=0.8,
        lamps=0.62,
    ),
    "overcast": LightingCondition(
        sun=toward(200.0, 40.0),
        sunlight=(0.0, 0.0, 0.0),
        skylight=(2.75, 2.9, 3.1),
        bounce=(0.6, 0.58, 0.55),
        zenith=(1.75, 1.85, 2.0),
        horizon=(2.5, 2.6, 2.7),
        halo=(0.35, 0.35, 0.33),
        cloud=(1.35, 1.42, 1.55),
        cloudiness=0.7,
        lamps=0.0,
    ),
}
EXPOSURES: dict[TimeOfDay, float] = {"noon": 400.0, "dusk": 2000.0, "overcast": 900.0}
"""Nominal exposure for each time of day: shutter time (ms) x ISO."""

# Columns of `lighting_table`, in the order of the fields.
SUN, SUNLIGHT, SKYLIGHT, BOUNCE, ZENITH, HORIZON, HALO, CLOUD, CLOUDINESS, LAMPS = 0, 3, 6, 9, 12, 15, 18, 21, 24, 25


def lighting_table() -> Float[np.ndarray, "lightings columns"]:
    """Return the lighting conditions as rows, in the order of `TIMES_OF_DAY`."""
    return np.array([LIGHTINGS[hour].row() for hour in TIMES_OF_DAY], np.float64)
