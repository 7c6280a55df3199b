"""Cars that move while a drive is made."""

from typing import Literal, get_args

from blocknerf.errors import CaptureError, one_of
from blocknerf.town.rig import Drive
from blocknerf.town.solids import Solid
from blocknerf.town.street_furniture import BODIES, car
from blocknerf.town.streets import LANE, SIDE_AT

Traffic = Literal["light", "dense"]
"""On the main street: two cars that come toward the rig, or a jam in the whole of the lane beside it."""
TRAFFICS: tuple[Traffic, ...] = get_args(Traffic)
ONCOMING, CROSSING, JAMMED = 7.0, 8.0, 1.0
"""Speeds (m/s)."""
SPACING = 12.0
"""Between the cars of a jam (m)."""
SPAWN_DISTANCE = 66.0


def positions(drive: Drive, seconds: float, traffic: Traffic = "light") -> list[tuple[float, float, float]]:
    """Where the drive's moving cars are (x, y, heading in degrees), `seconds` after its start.

    Light traffic: two come toward the rig on the main street; one crosses it on a side street. Dense traffic: a jam
    crawls beside it, in every drive with its cars elsewhere, and nothing crosses.

    Raises:
        CaptureError: there is no such traffic.
    """
    one_of(traffic, TRAFFICS, "sample: traffic", CaptureError)
    # A drive westward sees the picture of one eastward turned by half a circle.
    sign = 1.0 if drive.waypoints[0][0] < 0 else -1.0
    heading = 0.0 if sign < 0 else 180.0
    if traffic == "dense":
        first = SPACING * (0.382 * drive.start / 1000.0 % 1.0) - SPAWN_DISTANCE
        along = [first + SPACING * place - JAMMED * seconds for place in range(int(2.0 * SPAWN_DISTANCE / SPACING) + 2)]
        crossing = []
    else:
        along = [start - ONCOMING * seconds for start in (44.0, 92.0)]
        crossing = [(sign * (SIDE_AT + LANE), sign * CROSSING * (seconds - 6.0), 90.0 * sign)]
    spots = [(sign * x, sign * LANE, heading) for x in along] + crossing
    return [spot for spot in spots if abs(spot[0]) < SPAWN_DISTANCE and abs(spot[1]) < 42.0]


def moving_cars(drive: Drive, seconds: float, traffic: Traffic = "light") -> list[list[Solid]]:
    """The solids of each of the drive's moving cars, `seconds` after its start."""
    shift = len(drive.name) + int(drive.start / 1000.0)
    spots = enumerate(positions(drive, seconds, traffic))
    return [list(car(x, y, heading, BODIES[(number * 2 + shift) % len(BODIES)])) for number, (x, y, heading) in spots]
