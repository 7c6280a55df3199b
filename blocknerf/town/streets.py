"""The street plan: one main street and two side streets that cross it. Metres; x east, y north, z up."""

from dataclasses import dataclass

# Plain numbers, so that the ground's kernel sees constants.
MAIN_END, MAIN_HALF, MAIN_FACADE = 70.0, 5.0, 8.0
"""Half the main street's length; half its carriageway; from its middle to the facades."""
SIDE_AT, SIDE_END, SIDE_HALF, SIDE_FACADE = 22.0, 45.0, 3.5, 6.0
"""Where the side streets cross (east and west); half their length; half their carriageway; to the facades."""
KERB = 0.12
PARKING = 3.0
"""From the main street's middle to the line of the parking bays."""
LANE = 1.6
"""From a street's middle to the middle of a lane; traffic keeps to the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    """A named street as a polyline of (x, y)."""

    name: str
    highway: str
    """OpenStreetMap's class of road."""
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
