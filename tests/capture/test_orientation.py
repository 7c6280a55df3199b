"""Up direction and camera axes are found whatever the convention of the source."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.orientation import (
    axes_are_flipped,
    estimate_up,
    flip_axes,
    motion_agreement,
    points_seen,
    rotation_to_z,
)
from tests.capture.worlds import drone, forward_facing, street, turned, with_points

QUARTER = {
    "x": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
    "y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "-z": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
}
"""Rotations that turn +z to the axis of the key."""


@pytest.mark.parametrize("axis", ["z", *QUARTER])
@pytest.mark.parametrize("scene", [street(), street(headings=(0.3, 1.4, 2.9)), drone(), drone(pitch=-60)])
def test_up_is_found_in_any_world(axis: str, scene: Capture) -> None:
    up = estimate_up(turned(scene, np.array(QUARTER.get(axis, np.eye(3)), dtype=float)))
    assert up is not None
    assert up.certain
    assert up.name == axis


def test_a_tilted_world_is_named_by_its_vector() -> None:
    angle = np.radians(60)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    up = estimate_up(turned(street(headings=(0.3, 1.4, 2.9)), rotation))
    assert up is not None
    assert up.tilt == pytest.approx(60, abs=0.5)
    assert up.name == "(0.00, -0.87, 0.50)"


def test_cameras_that_face_down_one_way_without_moving_there_may_be_a_flight() -> None:
    """A forward-facing capture in a y-up world is the same geometry as a drone that never turns."""
    up = estimate_up(turned(forward_facing(), np.array(QUARTER["y"], dtype=float)))
    assert up is not None
    assert (up.direction, up.certain) == ((0.0, 0.0, 1.0), False)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("scene", [street(), drone()])
def test_reversed_camera_axes_are_noticed(scene: Capture, points: bool, tmp_path: Path) -> None:
    scene = with_points(scene, tmp_path) if points else scene
    assert axes_are_flipped(flip_axes(scene)) is True
    assert not axes_are_flipped(scene)
    assert flip_axes(flip_axes(scene)) == scene


def test_motion_agrees_with_the_view_of_a_car_but_not_of_a_drone() -> None:
    assert motion_agreement(street()) > 0.99
    assert motion_agreement(flip_axes(street())) < -0.99
    assert abs(motion_agreement(drone())) < 0.1


def test_the_share_of_points_in_view_shows_whether_they_fit(tmp_path: Path) -> None:
    scene = with_points(drone(), tmp_path)
    assert points_seen(drone()) is None
    assert points_seen(scene) > 0.5
    assert points_seen(flip_axes(scene)) == 0.0
    far = ((1.0, 0.0, 0.0, 900.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    assert points_seen(replace(scene, source_to_world=far)) == 0.0


@pytest.mark.parametrize("vector", [(0, 0, 1), (0, 0, -1), (0.6, 0, 0.8), (0, -1, 0), (0.01, 0, -0.99995)])
def test_the_rotation_turns_the_vector_up(vector: tuple[float, float, float]) -> None:
    rotation = rotation_to_z(vector)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert np.allclose(rotation @ np.array(vector), (0, 0, 1), atol=0.06)
