"""Up from cameras and ground, in frames that are turned at random."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from blocknerf.sfm.upright import ground_plane, up_of_cameras, upright_transform
from blocknerf.similarity import rotation_between
from tests.sfm.scenes import TILT, flight, points_to_model, poses, street, to_model

TRUE_UP = TILT @ np.array([0.0, 0.0, 1.0])
VIEWER_UP = np.array([0.0, -1.0, 0.0])


def strip(count: int = 12) -> np.ndarray:
    """One strip of a drone that looks straight down: the tops of its images point along the flight."""
    eyes = np.stack([np.zeros(count), np.arange(count) * 5.0, np.full(count, 50.0)], -1)
    return poses(eyes, eyes - [0.0, 0.0, 50.0])


@pytest.mark.parametrize(
    ("world", "degrees"), [(street(), 0.3), (flight(), 6.0), (strip(), 0.1)], ids=["street", "flight", "strip"]
)
def test_up_of_cameras(world: np.ndarray, degrees: float) -> None:
    """In the street it is not exact, since the cameras' pitch counts a little: its mean is not zero there."""
    up = up_of_cameras(to_model(world), np.repeat(VIEWER_UP[None], len(world), 0))
    assert up @ TRUE_UP > np.cos(np.radians(degrees))


def test_rolls_of_cameras_of_one_heading_do_not_tilt_the_world() -> None:
    """Cameras turn by a few degrees only, and roll a little as they turn: sideways axes alone tilt up by 16 degrees."""
    yaw = np.radians(np.linspace(-4.0, 4.0, 30))
    eyes = np.stack([np.zeros(30), np.arange(30) * 5.0, np.full(30, 1.6)], -1)
    world = poses(eyes, eyes + np.stack([np.cos(yaw), np.sin(yaw), np.zeros(30)], -1))
    roll = Rotation.from_rotvec(0.3 * yaw[:, None] * [0.0, 0.0, 1.0]).as_matrix()
    world[:, :, :3] = world[:, :, :3] @ roll
    assert up_of_cameras(to_model(world), np.repeat(VIEWER_UP[None], 30, 0)) @ TRUE_UP > np.cos(np.radians(1.0))


def test_rolled_images_say_where_their_up_is() -> None:
    """Every other image is stored with its top at the left, as EXIF orientation 6 says."""
    rolled, viewer_up = to_model(street()), np.repeat(VIEWER_UP[None], 30, 0)
    x, y = rolled[::2, :, 0].copy(), rolled[::2, :, 1].copy()
    rolled[::2, :, 0], rolled[::2, :, 1] = y, -x
    viewer_up[::2] = [-1.0, 0.0, 0.0]
    assert up_of_cameras(rolled, viewer_up) @ TRUE_UP > np.cos(np.radians(0.3))


def scattered_ground(tilt: float, share: float) -> np.ndarray:
    """Points of a ground plane that rises along x by `tilt` radians, and others above and below it."""
    generator = np.random.default_rng(5)
    count = 2000
    points = generator.uniform([-20.0, -20.0, -60.0], [170.0, 20.0, 1.0], (count, 3))
    on_ground = generator.random(count) < share
    points[on_ground, 2] = np.tan(tilt) * points[on_ground, 0] + generator.normal(0.0, 0.02, on_ground.sum())
    return points


def test_the_ground_refines_up_and_sets_the_height() -> None:
    world = to_model(street())
    points = points_to_model(scattered_ground(0.0, 0.7))
    tilted = rotation_between(TRUE_UP, TRUE_UP + 0.1 * world[0, :, 0]) @ TRUE_UP
    found = ground_plane(points, world[:, :, 3], tilted / np.linalg.norm(tilted))
    assert found is not None
    assert found[0] @ TRUE_UP > np.cos(np.radians(0.5))
    transform, found_ground = upright_transform(world, np.repeat(VIEWER_UP[None], 30, 0), points)
    assert found_ground
    matrix = np.array(transform)
    heights = (world[:, :, 3] @ matrix[:, :3].T + matrix[:, 3])[:, 2]
    assert heights == pytest.approx(1.6 * 0.13, abs=0.01)


def test_points_without_a_plane_are_no_ground() -> None:
    world = to_model(street())
    assert ground_plane(points_to_model(scattered_ground(0.0, 0.0)), world[:, :, 3], TRUE_UP) is None
    transform, found_ground = upright_transform(world, np.repeat(VIEWER_UP[None], 30, 0), np.zeros((0, 3)))
    assert not found_ground
    assert np.array(transform)[:, :3] @ TRUE_UP == pytest.approx([0.0, 0.0, 1.0], abs=1e-2)


@pytest.mark.parametrize("end", [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.6, 0.8, 0.0]])
def test_the_rotation_between_two_vectors(end: list[float]) -> None:
    rotation = rotation_between(np.array([0.0, 0.0, 1.0]), np.array(end))
    assert rotation @ [0.0, 0.0, 1.0] == pytest.approx(end, abs=1e-12)
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
