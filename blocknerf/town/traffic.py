"""Moving cars during a drive."""

from typing import Literal, get_args

from blocknerf.errors import CaptureError, one_of
from blocknerf.town.rig import Drive
from blocknerf.town.solids import Solid
from blocknerf.town.street_furniture import BODIES, car
from blocknerf.town.streets import LANE, SIDE_AT

Traffic = Literal["light", "dense"]
"""On the main street: two oncoming cars, or a traffic jam along the whole oncoming lane."""
TRAFFICS: tuple[Traffic, ...] = get_args(Traffic)
ONCOMING, CROSSING, JAMMED = 7.0, 8.0, 1.0
"""Speeds (m/s)."""
SPACING = 12.0
"""Distance between the cars of a jam (m)."""
SPAWN_DISTANCE = 66.0


def positions(drive: Drive, seconds: float, traffic: Traffic = "light") -> list[tuple[float, float, float]]:
    """Return the moving cars of a drive (x, y, heading in degrees), `seconds` after its start.

    Light traffic: two oncoming cars on the main street, one crossing it on a side street. Dense traffic: a slow jam in
    the oncoming lane, with other car positions in every drive, and no crossing car.

    Raises:
        CaptureError: the traffic is unknown.
    """
    one_of(traffic, TRAFFICS, "sample: traffic", CaptureError)
    # Traffic of a westward drive is that of an eastward one, rotated by 180 degrees.
    sign = 1.0 if drive.waypoints[0][0] < 0 else -1.0
    heading = 0.0 if sign < 0 else 180.0
    if traffic == "dense":
        first = SPACING * (0.382 * drive.start / 1000.0 % 1.0) - SPAWN_DISTANCE
        along = [first + SPACING * index - JAMMED * seconds for index in range(int(2.0 * SPAWN_DISTANCE / SPACING) + 2)]
        crossing = []
    else:
        along = [start - ONCOMING * seconds for start in (44.0, 92.0)]
        crossing = [(sign * (SIDE_AT + LANE), sign * CROSSING * (seconds - 6.0), 90.0 * sign)]
    spots = [(sign * x, sign * LANE, heading) for x in along] + crossing
    return [spot for spot in spots if abs(spot[0]) < SPAWN_DISTANCE and abs(spot[1]) < 42.0]


def moving_cars(drive: Drive, seconds: float, traffic: Traffic = "light") -> list[list[Solid]]:
    """Return the solids of every moving car of a drive, `seconds` after its start."""
    color_offset = len(drive.name) + int(drive.start / 1000.0)
    spots = enumerate(positions(drive, seconds, traffic))
    return [
        list(car(x, y, heading, BODIES[(number * 2 + color_offset) % len(BODIES)])) for number, (x, y, heading) in spots
    ]
