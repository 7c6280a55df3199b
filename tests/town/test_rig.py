"""Drives: even spacing, both intersections, no collisions with houses or cars."""

import inspect
from itertools import pairwise
from math import dist, hypot
from typing import get_args

import numpy as np
import pytest
import torch

from blocknerf.errors import CaptureError
from blocknerf.geometry import is_rigid
from blocknerf.town.lighting import TIMES_OF_DAY
from blocknerf.town.raycaster import closest_surface
from blocknerf.town.rig import RIG, SPEED, Route, camera_pose, plan_drives, sample_positions
from blocknerf.town.streets import LANE, SIDE_AT
from blocknerf.town.town import Town
from blocknerf.town.traffic import moving_cars, positions

DRIVES = [(route, number) for route in get_args(Route) for number in range(2)]


@pytest.mark.parametrize(("route", "number"), DRIVES)
def test_drives_are_evenly_spaced_and_pass_every_intersection(route: Route, number: int) -> None:
    path = sample_positions(plan_drives(2, route)[number], 40)
    steps = [hypot(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(path)]
    assert max(steps) < 3.0
    assert min(steps) > 0.95 * max(steps)
    for crossing in ((-SIDE_AT, 0.0), (SIDE_AT, 0.0)):
        assert min(dist(position[:2], crossing) for position in path) < 4.5


@pytest.mark.parametrize(("route", "number"), DRIVES)
def test_cameras_are_outside_solids_and_away_from_moving_cars(town: Town, route: Route, number: int) -> None:
    drive = plan_drives(2, route)[number]
    path = sample_positions(drive, 40)
    poses = np.stack([camera_pose(x, y, heading, camera) for x, y, heading, _ in path for camera in RIG])
    assert is_rigid(torch.from_numpy(poses)).all()
    gaps, solids = np.empty(len(poses)), np.empty(len(poses), np.int64)
    closest_surface(town.scene, np.ascontiguousarray(poses[:, :, 3]), gaps, solids)
    assert gaps.min() > 0.3
    for x, y, _, distance in path:
        # On a tour the rig turns left across the oncoming lane.
        for car in positions(drive, distance / SPEED, "dense" if route == "main" else "light"):
            assert dist((x, y), car[:2]) > 2.9


def test_drives_alternate_in_time_of_day_and_direction() -> None:
    drives = plan_drives(6, "main")
    assert [drive.hour for drive in drives] == [*TIMES_OF_DAY, *TIMES_OF_DAY]
    assert {(drive.hour, drive.waypoints[0][0] < 0) for drive in drives} == {
        (h, e) for h in TIMES_OF_DAY for e in (True, False)
    }
    assert len({drive.name for drive in drives}) == 6


def test_exposure_varies_by_less_than_half_a_stop() -> None:
    drives = plan_drives(3, "main")
    for drive in drives:
        values = np.array([drive.exposure(position, camera) for position in range(30) for camera in range(3)])
        assert values.max() / values.min() > 1.2
        assert values.max() / values.min() < 2.0


def test_poses_match_the_orientation_of_the_rig_cameras() -> None:
    left, forward, right = (camera_pose(5.0, -1.6, 0.0, camera) for camera in RIG)
    for pose in (left, forward, right):
        assert pose[2, 2] > 0.0
        assert pose[2, 1] < -0.9
    assert forward[0, 2] > 0.99
    assert left[1, 2] > 0.7
    assert right[1, 2] < -0.7


def test_cars_move_with_time() -> None:
    drive = plan_drives(1, "main")[0]
    early, late = (moving_cars(drive, seconds)[0][0].center[0] for seconds in (1.0, 2.0))
    assert early - late == pytest.approx(7.0)


def test_large_exposure_jitter_hides_the_time_of_day() -> None:
    drives = plan_drives(3, "main")

    def extremes(hour: str, jitter: float) -> tuple[float, float]:
        drive = next(drive for drive in drives if drive.hour == hour)
        values = [drive.exposure(position, camera, jitter) for position in range(30) for camera in range(3)]
        return max(values), min(values)

    assert extremes("noon", 0.3)[0] < extremes("overcast", 0.3)[1]
    assert extremes("noon", 1.0)[0] > extremes("overcast", 1.0)[1]
    assert extremes("overcast", 1.0)[0] > extremes("dusk", 1.0)[1]


def test_dense_traffic_is_a_jam_in_the_oncoming_lane_and_differs_by_drive() -> None:
    sixth_cars, drives = [], plan_drives(6, "main")
    for drive in drives:
        early, late = (sorted(positions(drive, seconds, "dense")) for seconds in (0.0, 12.0))
        assert {y for _, y, _ in early} == {-LANE if drive.waypoints[0][0] > 0 else LANE}
        for cars in (early, late):
            assert len(cars) >= 10
            assert min(b[0] - a[0] for a, b in pairwise(cars)) > 11.0
        sixth_cars.append(early[5][0])
    assert len({round(x, 1) for x in sixth_cars}) == 6


def test_an_unknown_route_or_traffic_raises() -> None:
    with pytest.raises(CaptureError, match="route 'ring' is none of main, tour; choose one of them"):
        inspect.unwrap(plan_drives)(1, "ring")  # without the type checks of the tests
    (drive,) = plan_drives(1, "main")
    with pytest.raises(CaptureError, match="traffic 'none' is none of light, dense; choose one of them"):
        inspect.unwrap(positions)(drive, 0.0, "none")
