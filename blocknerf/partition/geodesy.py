"""Latitude and longitude to metres east and north of a reference (WGS 84)."""

import math

SEMI_MAJOR = 6_378_137.0
ECCENTRICITY_SQUARED = 6.694_379_990_14e-3


def east_north(longitude: float, latitude: float, origin: tuple[float, float, float]) -> tuple[float, float]:
    """Metres east and north of `origin` (latitude, longitude, altitude) in its tangent plane, at its altitude.

    Exact for the ellipsoid, by way of earth-centred coordinates.

    >>> [round(x, 1) for x in east_north(0.001, 0.0, (0.0, 0.0, 0.0))]
    [111.3, 0.0]
    """
    x, y, z = _earth_centred(longitude - origin[1], latitude, origin[2])
    at_x, _, at_z = _earth_centred(0.0, origin[0], origin[2])
    tilt = math.radians(origin[0])
    return y, (z - at_z) * math.cos(tilt) - (x - at_x) * math.sin(tilt)


def _earth_centred(longitude: float, latitude: float, altitude: float) -> tuple[float, float, float]:
    """Metres from the earth's centre toward longitude zero, toward the east of it, and toward the north pole."""
    turn, lift = math.radians(longitude), math.radians(latitude)
    across = SEMI_MAJOR / math.sqrt(1.0 - ECCENTRICITY_SQUARED * math.sin(lift) ** 2)
    out = (across + altitude) * math.cos(lift)
    up = (across * (1.0 - ECCENTRICITY_SQUARED) + altitude) * math.sin(lift)
    return out * math.cos(turn), out * math.sin(turn), up
