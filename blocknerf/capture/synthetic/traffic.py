"""Cars that move while a drive is made."""

from blocknerf.capture.synthetic.furniture import BODIES, car
from blocknerf.capture.synthetic.rig import Drive
from blocknerf.capture.synthetic.solids import Solid
from blocknerf.capture.synthetic.streets import LANE, SIDE_AT

ONCOMING, CROSSING = 7.0, 8.0
"""Speeds (m/s)."""
OUT_OF_TOWN = 66.0


def positions(drive: Drive, seconds: float) -> list[tuple[float, float, float]]:
    """Where the drive's moving cars are (x, y, heading in degrees), `seconds` after its start.

    Two come toward the rig on the main street; one crosses it on a side street.
    """
    # A drive westward sees the picture of one eastward turned by half a circle.
    sign = 1.0 if drive.waypoints[0][0] < 0 else -1.0
    spots = [(sign * (start - ONCOMING * seconds), sign * LANE, 0.0 if sign < 0 else 180.0) for start in (44.0, 92.0)]
    spots.append((sign * (SIDE_AT + LANE), sign * CROSSING * (seconds - 6.0), 90.0 * sign))
    return [spot for spot in spots if abs(spot[0]) < OUT_OF_TOWN and abs(spot[1]) < 42.0]


def moving_cars(drive: Drive, seconds: float) -> list[list[Solid]]:
    """The solids of each of the drive's moving cars, `seconds` after its start."""
    shift = len(drive.name) + int(drive.start / 1000.0)
    spots = enumerate(positions(drive, seconds))
    return [list(car(x, y, heading, BODIES[(number * 2 + shift) % len(BODIES)])) for number, (x, y, heading) in spots]
