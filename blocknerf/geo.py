"""Latitude and longitude as metres east and north of a reference, and back (WGS 84)."""

import math

SEMI_MAJOR = 6_378_137.0
ECCENTRICITY_SQUARED = 6.694_379_990_14e-3
ITERATIONS = 12
"""Of a guess at latitude and longitude; each leaves a few hundredths of the error at most, so these end at rounding."""


def geodetic_to_enu(longitude: float, latitude: float, origin: tuple[float, float, float]) -> tuple[float, float]:
    """Metres east and north of `origin` (latitude, longitude, altitude) in its tangent plane, at its altitude.

    Exact for the ellipsoid, by way of earth-centred coordinates.

    >>> [round(x, 1) for x in geodetic_to_enu(0.001, 0.0, (0.0, 0.0, 0.0))]
    [111.3, 0.0]
    """
    x, y, z = _earth_centred(longitude - origin[1], latitude, origin[2])
    at_x, _, at_z = _earth_centred(0.0, origin[0], origin[2])
    tilt = math.radians(origin[0])
    return y, (z - at_z) * math.cos(tilt) - (x - at_x) * math.sin(tilt)


def enu_to_geodetic(east: float, north: float, origin: tuple[float, float, float]) -> tuple[float, float]:
    """Degrees of a position in the tangent plane of `origin`; the inverse of `geodetic_to_enu`, within 100 km.

    >>> [round(x, 6) for x in enu_to_geodetic(111.3195, 0.0, (0.0, 0.0, 0.0))]
    [0.0, 0.001]
    """
    per_degree = math.radians(SEMI_MAJOR)
    latitude, longitude = origin[:2]
    for _ in range(ITERATIONS):
        x, y = geodetic_to_enu(longitude, latitude, origin)
        latitude += (north - y) / per_degree
        longitude += (east - x) / (per_degree * math.cos(math.radians(origin[0])))
    return latitude, longitude


def _earth_centred(longitude: float, latitude: float, altitude: float) -> tuple[float, float, float]:
    """Metres from the earth's centre toward longitude zero, toward the east of it, and toward the north pole."""
    turn, lift = math.radians(longitude), math.radians(latitude)
    across = SEMI_MAJOR / math.sqrt(1.0 - ECCENTRICITY_SQUARED * math.sin(lift) ** 2)
    out = (across + altitude) * math.cos(lift)
    up = (across * (1.0 - ECCENTRICITY_SQUARED) + altitude) * math.sin(lift)
    return out * math.cos(turn), out * math.sin(turn), up
