"""Conversions between geodetic and east-north coordinates."""

import pytest

from blocknerf.geo import enu_to_geodetic, geodetic_to_enu


@pytest.mark.parametrize(
    ("latitude", "east", "north"),
    [(0.0, 111_319.5, 110_574.3), (45.0, 78_846.8, 111_131.8), (60.0, 55_800.0, 111_412.2)],
)
def test_length_of_a_degree(latitude: float, east: float, north: float) -> None:
    """Against the tabulated lengths of a degree on WGS 84."""
    origin = (latitude, 10.0, 0.0)
    assert geodetic_to_enu(10.001, latitude, origin)[0] == pytest.approx(east / 1000, rel=1e-4)
    assert geodetic_to_enu(10.0, latitude + 0.001, origin)[1] == pytest.approx(north / 1000, rel=1e-4)


@pytest.mark.parametrize(("east", "north"), [(0.0, 0.0), (-3.0, 2.0), (70_000.0, -100_000.0)])
def test_meters_round_trip_through_degrees(east: float, north: float) -> None:
    for origin in ((49.0, 8.4, 112.0), (0.0, 0.0, 0.0), (-63.0, 179.9, 20.0)):
        latitude, longitude = enu_to_geodetic(east, north, origin)
        assert geodetic_to_enu(longitude, latitude, origin) == pytest.approx((east, north), abs=1e-4)


def test_the_origin_is_zero() -> None:
    assert geodetic_to_enu(8.4, 49.0, (49.0, 8.4, 112.0)) == (0.0, 0.0)


def test_far_diagonals_are_exact() -> None:
    """Against PROJ's orthographic projection of the ellipsoid; a constant length of a degree would be 0.2 m off."""
    east, north = geodetic_to_enu(8.414, 49.009, (49.0, 8.4, 0.0))
    assert (east, north) == pytest.approx((1024.2205, 1000.9829), abs=1e-4)
