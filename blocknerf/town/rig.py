"""A car with three cameras, and the drives it makes through the town."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, cos, degrees, radians, sin, tan
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from blocknerf.errors import CaptureError, one_of
from blocknerf.town.lighting import EXPOSURES, TIMES_OF_DAY, TimeOfDay
from blocknerf.town.streets import LANE, SIDE_AT

Route = Literal["main", "tour"]
"""`main`: along the main street through both intersections; `tour`: out of one side street and into the other."""
SPEED = 6.0
"""Of the car (m/s)."""
EXPOSURE_JITTER = 0.3
"""Of automatic exposure, to either side (stops)."""
CORNER = 4.5
"""Radius of the curve in which the car turns a corner (m)."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RigCamera:
    """A camera on the car: where it sits (metres ahead, to the left, above the road), where it looks (degrees)."""

    name: str
    ahead: float
    left: float
    up: float
    yaw: float
    """To the left of straight ahead."""
    pitch: float
    """Upward."""


RIG: tuple[RigCamera, ...] = (
    RigCamera(name="left", ahead=0.2, left=0.45, up=2.3, yaw=50.0, pitch=5.0),
    RigCamera(name="forward", ahead=0.5, left=0.0, up=2.3, yaw=0.0, pitch=3.0),
    RigCamera(name="right", ahead=0.2, left=-0.45, up=2.3, yaw=-50.0, pitch=5.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """One pass through the town at one hour."""

    name: str
    hour: TimeOfDay
    waypoints: tuple[Point, ...]
    start: float
    """Seconds."""
    phase: float
    """Where its first stop lies, in steps: drives stagger, so that together they see more than each."""

    def exposure(self, stop: int, camera: int, wander: float = EXPOSURE_JITTER) -> float:
        """Shutter time (ms) x ISO: the hour's choice, wandering by so many stops as automatic exposure does."""
        stops = wander * sin(0.55 * stop + 2.1 * camera + len(self.name)) + 0.1 * (camera - 1)
        return round(EXPOSURES[self.hour] * 2.0**stops, 2)


def plan_drives(count: int, route: Route) -> list[Drive]:
    """Drives that take turns in the hour and in the direction, each through the whole route.

    Raises:
        CaptureError: there is no such route.
    """
    one_of(route, get_args(Route), "sample: route", CaptureError)
    drives = []
    for number in range(count):
        hour = TIMES_OF_DAY[number % len(TIMES_OF_DAY)]
        drives.append(
            Drive(
                name=f"drive{number}_{hour}",
                hour=hour,
                waypoints=_waypoints(route, number % 2 == 1),
                start=1000.0 * number,
                phase=(number + 0.5) / count,
            )
        )
    return drives


def _waypoints(route: Route, backward: bool) -> tuple[Point, ...]:
    """The route in the right-hand lane, in either direction (each is the other turned by half a circle)."""
    sign = -1.0 if backward else 1.0
    if route == "main":
        points: Sequence[Point] = ((-36.0, -LANE), (36.0, -LANE))
    else:
        points = ((-SIDE_AT + LANE, -36.0), (-SIDE_AT + LANE, -LANE), (SIDE_AT + LANE, -LANE), (SIDE_AT + LANE, 36.0))
    return tuple((sign * x, sign * y) for x, y in points)


def sample_positions(drive: Drive, count: int) -> list[tuple[float, float, float, float]]:
    """Evenly spaced (x, y, heading in radians, distance from the start) along a drive, its corners rounded."""
    path = _rounded(drive.waypoints)
    steps = np.hypot(*np.diff(path, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    stops = []
    for distance in along[-1] * (np.arange(count) + drive.phase) / count:
        piece = int(np.clip(np.searchsorted(along, distance, side="right") - 1, 0, len(steps) - 1))
        share = (distance - along[piece]) / steps[piece]
        x, y = path[piece] + share * (path[piece + 1] - path[piece])
        turn = path[piece + 1] - path[piece]
        stops.append((float(x), float(y), atan2(turn[1], turn[0]), float(distance)))
    return stops


def _rounded(waypoints: Sequence[Point]) -> Float[np.ndarray, "points 2"]:
    """The polyline with each corner replaced by an arc of radius CORNER in steps of five degrees."""
    points = [waypoints[0]]
    for before, corner, after in zip(waypoints[:-2], waypoints[1:-1], waypoints[2:], strict=True):
        coming = atan2(corner[1] - before[1], corner[0] - before[0])
        turn = (atan2(after[1] - corner[1], after[0] - corner[0]) - coming + np.pi) % (2 * np.pi) - np.pi
        side = 1.0 if turn > 0 else -1.0
        back = CORNER * tan(abs(turn) / 2)
        x = corner[0] - back * cos(coming) - side * CORNER * sin(coming)
        y = corner[1] - back * sin(coming) + side * CORNER * cos(coming)
        steps = max(2, round(degrees(abs(turn)) / 5))
        for step in range(steps + 1):
            angle = coming + turn * step / steps - side * np.pi / 2
            points.append((x + CORNER * cos(angle), y + CORNER * sin(angle)))
    points.append(waypoints[-1])
    return np.array(points)


def camera_pose(x: float, y: float, heading: float, mount: RigCamera) -> Float[np.ndarray, "3 4"]:
    """Camera to world (OpenCV axes) of one camera of the car standing at (x, y)."""
    yaw, pitch = heading + radians(mount.yaw), radians(mount.pitch)
    forward = np.array([cos(yaw) * cos(pitch), sin(yaw) * cos(pitch), sin(pitch)])
    right = np.array([sin(yaw), -cos(yaw), 0.0])
    down = np.cross(forward, right)
    center = np.array(
        [
            x + mount.ahead * cos(heading) - mount.left * sin(heading),
            y + mount.ahead * sin(heading) + mount.left * cos(heading),
            mount.up,
        ]
    )
    return np.stack([right, down, forward, center], -1)
