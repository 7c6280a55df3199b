"""Streets of the town: one main street and two crossing side streets. Meters; x east, y north, z up."""

from dataclasses import dataclass

# Plain numbers are constants in the kernels.
MAIN_END, MAIN_HALF, MAIN_FACADE = 70.0, 5.0, 8.0
"""Main street: half length; half width of the roadway; distance of the facades from the centerline."""
SIDE_AT, SIDE_END, SIDE_HALF, SIDE_FACADE = 22.0, 45.0, 3.5, 6.0
"""Side streets: x of the crossings (east and west); half length; half roadway; distance of the facades."""
CURB = 0.12
PARKING = 3.0
"""Distance of the parking line from the centerline of the main street."""
LANE = 1.6
"""Distance of the lane center from the centerline; traffic keeps to the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    """A named street as a polyline of (x, y)."""

    name: str
    highway: str
    """Road class of OpenStreetMap."""
    points: tuple[tuple[float, float], ...]


STREETS: tuple[Street, ...] = (
    Street(
        name="Main Street",
        highway="secondary",
        points=((-MAIN_END, 0.0), (-SIDE_AT, 0.0), (SIDE_AT, 0.0), (MAIN_END, 0.0)),
    ),
    Street(
        name="West Lane", highway="residential", points=((-SIDE_AT, -SIDE_END), (-SIDE_AT, 0.0), (-SIDE_AT, SIDE_END))
    ),
    Street(name="East Lane", highway="residential", points=((SIDE_AT, -SIDE_END), (SIDE_AT, 0.0), (SIDE_AT, SIDE_END))),
)
