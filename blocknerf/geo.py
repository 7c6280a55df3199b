"""Conversions between geodetic (WGS 84) and local east-north coordinates."""

import math

SEMI_MAJOR = 6_378_137.0
ECCENTRICITY_SQUARED = 6.694_379_990_14e-3
"""Of the WGS 84 ellipsoid; the semi-major axis is in meters."""
ITERATIONS = 12
"""Fixed-point iterations of `enu_to_geodetic`. Each leaves at most a few hundredths of the error, so the result is
exact up to rounding."""


def geodetic_to_enu(longitude: float, latitude: float, origin: tuple[float, float, float]) -> tuple[float, float]:
    """Return meters east and north of `origin` (latitude, longitude, altitude) in its tangent plane, at its altitude.

    Exact for the ellipsoid, computed through earth-centered coordinates.

    >>> [round(x, 1) for x in geodetic_to_enu(0.001, 0.0, (0.0, 0.0, 0.0))]
    [111.3, 0.0]
    """
    x, y, z = _earth_centered(longitude - origin[1], latitude, origin[2])
    origin_x, _, origin_z = _earth_centered(0.0, origin[0], origin[2])
    lat = math.radians(origin[0])
    return y, (z - origin_z) * math.cos(lat) - (x - origin_x) * math.sin(lat)


def enu_to_geodetic(east: float, north: float, origin: tuple[float, float, float]) -> tuple[float, float]:
    """Return latitude and longitude (degrees) of a position; the inverse of `geodetic_to_enu` within 100 km.

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


def earth_centered_to_geodetic(x: float, y: float, z: float) -> tuple[float, float, float]:
    """Return latitude, longitude (degrees) and altitude (m) of earth-centered coordinates in meters.

    >>> [round(number, 6) for number in earth_centered_to_geodetic(SEMI_MAJOR + 100.0, 0.0, 0.0)]
    [0.0, 0.0, 100.0]
    """
    axis_distance, latitude = math.hypot(x, y), math.atan2(z, math.hypot(x, y))
    for _ in range(ITERATIONS):
        sine = math.sin(latitude)
        normal_radius = SEMI_MAJOR / math.sqrt(1.0 - ECCENTRICITY_SQUARED * sine**2)
        latitude = math.atan2(z + ECCENTRICITY_SQUARED * normal_radius * sine, axis_distance)
    # The height above the ellipsoid along its normal, in a form that is exact at the poles, too.
    altitude = axis_distance * math.cos(latitude) + z * math.sin(latitude) - SEMI_MAJOR**2 / normal_radius
    return math.degrees(latitude), math.degrees(math.atan2(y, x)), altitude


def east_north_up(latitude: float, longitude: float) -> tuple[tuple[float, float, float], ...]:
    """Return the axes east, north and up at a place as rows, in earth-centered coordinates."""
    lat, lon = math.radians(latitude), math.radians(longitude)
    return (
        (-math.sin(lon), math.cos(lon), 0.0),
        (-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat)),
        (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)),
    )


def _earth_centered(longitude: float, latitude: float, altitude: float) -> tuple[float, float, float]:
    """Return earth-centered coordinates (ECEF) in meters: x toward longitude zero, y toward 90 east, z to the pole."""
    lon, lat = math.radians(longitude), math.radians(latitude)
    normal_radius = SEMI_MAJOR / math.sqrt(1.0 - ECCENTRICITY_SQUARED * math.sin(lat) ** 2)
    axis_distance = (normal_radius + altitude) * math.cos(lat)
    z = (normal_radius * (1.0 - ECCENTRICITY_SQUARED) + altitude) * math.sin(lat)
    return axis_distance * math.cos(lon), axis_distance * math.sin(lon), z
