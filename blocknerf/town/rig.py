"""A car with three cameras, and its drives through the town."""

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
"""`main`: along the main street through both intersections; `tour`: from one side street into the other."""
SPEED = 6.0
"""Speed of the car (m/s)."""
EXPOSURE_JITTER = 0.3
"""Amplitude of the automatic exposure (stops)."""
CORNER = 4.5
"""Turning radius of the car at corners (m)."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RigCamera:
    """A camera on the car: position (meters ahead, left and above the road) and orientation (degrees)."""

    name: str
    ahead: float
    left: float
    up: float
    yaw: float
    """Positive to the left."""
    pitch: float
    """Positive upward."""


RIG: tuple[RigCamera, ...] = (
    RigCamera(name="left", ahead=0.2, left=0.45, up=2.3, yaw=50.0, pitch=5.0),
    RigCamera(name="forward", ahead=0.5, left=0.0, up=2.3, yaw=0.0, pitch=3.0),
    RigCamera(name="right", ahead=0.2, left=-0.45, up=2.3, yaw=-50.0, pitch=5.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """One pass of the car through the town at one time of day."""

    name: str
    hour: TimeOfDay
    waypoints: tuple[Point, ...]
    start: float
    """Start time (s)."""
    phase: float
    """Offset of the first position, in steps; it differs by drive, so that drives complement each other."""

    def exposure(self, position: int, camera: int, jitter: float = EXPOSURE_JITTER) -> float:
        """Return shutter time (ms) x ISO: the nominal exposure, varied by `jitter` stops as by automatic exposure."""
        stops = jitter * sin(0.55 * position + 2.1 * camera + len(self.name)) + 0.1 * (camera - 1)
        return round(EXPOSURES[self.hour] * 2.0**stops, 2)


def plan_drives(count: int, route: Route) -> list[Drive]:
    """Return drives through the whole route, alternating in time of day and direction.

    Raises:
        CaptureError: the route is unknown.
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
    """Return the route in the right-hand lane; the backward route is the forward one rotated by 180 degrees."""
    sign = -1.0 if backward else 1.0
    if route == "main":
        points: Sequence[Point] = ((-36.0, -LANE), (36.0, -LANE))
    else:
        points = ((-SIDE_AT + LANE, -36.0), (-SIDE_AT + LANE, -LANE), (SIDE_AT + LANE, -LANE), (SIDE_AT + LANE, 36.0))
    return tuple((sign * x, sign * y) for x, y in points)


def sample_positions(drive: Drive, count: int) -> list[tuple[float, float, float, float]]:
    """Return evenly spaced positions of a drive: x, y, heading (radians), distance from the start."""
    path = _round_corners(drive.waypoints)
    steps = np.hypot(*np.diff(path, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    positions = []
    for distance in along[-1] * (np.arange(count) + drive.phase) / count:
        i = int(np.clip(np.searchsorted(along, distance, side="right") - 1, 0, len(steps) - 1))
        fraction = (distance - along[i]) / steps[i]
        x, y = path[i] + fraction * (path[i + 1] - path[i])
        direction = path[i + 1] - path[i]
        positions.append((float(x), float(y), atan2(direction[1], direction[0]), float(distance)))
    return positions


def _round_corners(waypoints: Sequence[Point]) -> Float[np.ndarray, "points 2"]:
    """Return the polyline with each corner replaced by an arc of radius CORNER in steps of five degrees."""
    points = [waypoints[0]]
    for previous, corner, following in zip(waypoints[:-2], waypoints[1:-1], waypoints[2:], strict=True):
        heading = atan2(corner[1] - previous[1], corner[0] - previous[0])
        angle = (atan2(following[1] - corner[1], following[0] - corner[0]) - heading + np.pi) % (2 * np.pi) - np.pi
        side = 1.0 if angle > 0 else -1.0
        tangent = CORNER * tan(abs(angle) / 2)
        x = corner[0] - tangent * cos(heading) - side * CORNER * sin(heading)
        y = corner[1] - tangent * sin(heading) + side * CORNER * cos(heading)
        steps = max(2, round(degrees(abs(angle)) / 5))
        for step in range(steps + 1):
            polar = heading + angle * step / steps - side * np.pi / 2
            points.append((x + CORNER * cos(polar), y + CORNER * sin(polar)))
    points.append(waypoints[-1])
    return np.array(points)


def camera_pose(x: float, y: float, heading: float, camera: RigCamera) -> Float[np.ndarray, "3 4"]:
    """Return the camera-to-world matrix (OpenCV axes) of a rig camera with the car at (x, y)."""
    yaw, pitch = heading + radians(camera.yaw), radians(camera.pitch)
    forward = np.array([cos(yaw) * cos(pitch), sin(yaw) * cos(pitch), sin(pitch)])
    right = np.array([sin(yaw), -cos(yaw), 0.0])
    down = np.cross(forward, right)
    center = np.array(
        [
            x + camera.ahead * cos(heading) - camera.left * sin(heading),
            y + camera.ahead * sin(heading) + camera.left * cos(heading),
            camera.up,
        ]
    )
    return np.stack([right, down, forward, center], -1)
