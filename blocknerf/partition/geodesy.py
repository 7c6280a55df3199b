"""Latitude and longitude to metres east and north of a reference (WGS 84)."""

import math

SEMI_MAJOR = 6_378_137.0
ECCENTRICITY_SQUARED = 6.694_379_990_14e-3


def east_north(longitude: float, latitude: float, origin: tuple[float, float, float]) -> tuple[float, float]:
    """Metres east and north of `origin` (latitude, longitude, altitude) in its tangent plane.

    Exact to the ellipsoid's curvature at the origin: about a centimetre per kilometre, for city-sized areas.

    >>> [round(x, 1) for x in east_north(0.001, 0.0, (0.0, 0.0, 0.0))]
    [111.3, 0.0]
    """
    sine = math.sin(math.radians(origin[0]))
    bend = 1.0 - ECCENTRICITY_SQUARED * sine * sine
    across = SEMI_MAJOR / math.sqrt(bend) + origin[2]
    along = SEMI_MAJOR * (1.0 - ECCENTRICITY_SQUARED) / bend**1.5 + origin[2]
    east = math.radians(longitude - origin[1]) * across * math.cos(math.radians(origin[0]))
    return east, math.radians(latitude - origin[0]) * along
