"""The real captures: all import, and their points project onto matching image content."""

import numpy as np
import pytest
import torch

from blocknerf.cameras import CameraModel
from blocknerf.capture import Capture, read_capture, read_transforms, write_capture

FRAMES = {"fox": 50, "drone_caliterra": 75, "street_lund": 29, "street_kitti0001": 216, "street_kitti0005": 308}
WITH_POINTS = [name for name in FRAMES if name != "fox"]


@pytest.fixture(scope="module")
def captures(real_captures) -> dict[str, Capture]:
    """Each capture by name, imported once."""
    return {name: read_transforms(real_captures / name) for name in FRAMES}


@pytest.mark.parametrize("name", FRAMES)
def test_import_and_round_trip(captures, name, tmp_path):
    capture = captures[name]
    assert len(capture) == FRAMES[name]
    assert len(capture.segments) == 1
    assert capture.is_metric == (name != "fox")
    write_capture(capture, tmp_path / "capture.json")
    assert read_capture(tmp_path / "capture.json") == capture
    middle = len(capture) // 2
    small = capture.cameras().scaled(0.5)
    assert capture.read_image(middle, 2).shape == (small.height[middle], small.width[middle], 3)


def test_facts_of_the_data_readme(captures, real_captures):
    assert captures["fox"].frames[0].intrinsics.model == CameraModel.OPENCV
    assert captures["street_kitti0005"].extent == pytest.approx(np.hypot(30, 55) / 2, rel=0.02)
    assert captures["drone_caliterra"].extent == pytest.approx(np.hypot(116, 88) / 2, rel=0.02)
    lidar = captures["street_kitti0001"].read_lidar_points()
    assert lidar is not None
    assert len(lidar) == 103765
    (with_gray,) = (real_captures / "street_kitti0005").glob("transforms_with_*.json")
    gray = read_transforms(with_gray)
    assert sum(frame.grayscale for frame in gray.frames) == 308
    assert len({frame.camera for frame in gray.frames}) == 4
    assert np.ptp(gray.read_image(len(gray) - 1), axis=-1).max() == 0


@pytest.mark.parametrize("name", [name for name in FRAMES if name != "drone_caliterra"])
def test_up_is_z(captures, name):
    up = -captures[name].cameras().camera_to_world[:, :, 1].mean(0)
    assert up[2] > 0.85


def test_the_drone_is_above_its_points_and_looks_down(captures):
    capture = captures["drone_caliterra"]
    cameras, points = capture.cameras(), capture.read_sparse_points()
    assert points is not None
    assert cameras.camera_to_world[:, 2, 2].max() < -0.9
    assert cameras.centers[:, 2].min() > np.median(points.positions[:, 2]) + 20


@pytest.mark.parametrize("name", WITH_POINTS)
def test_points_project_into_the_images(captures, name):
    """Every image shows some of the points, and nearly every point is in several images."""
    capture = captures[name]
    points, cameras = capture.read_sparse_points(), capture.cameras()
    assert points is not None
    positions = torch.from_numpy(points.positions[::10].copy())
    visible = torch.stack([cameras.project(positions, i)[2] for i in range(len(capture))])
    assert visible.sum(1).min() >= 5
    assert (visible.sum(0) >= 2).float().mean() > 0.99
    assert 0.05 < visible.float().mean() < 0.9


@pytest.mark.parametrize("name", WITH_POINTS)
def test_points_have_the_color_of_the_image(captures, name):
    """A wrong axis, principal point or channel order loses the correlation."""
    capture = captures[name]
    points, cameras, index = capture.read_sparse_points(), capture.cameras(), len(capture) - 1
    assert points is not None
    assert points.colors is not None
    pixels, depth, visible = cameras.project(torch.from_numpy(points.positions), index)
    near = visible & (depth < depth[visible].median())  # distant points are more often occluded
    x, y = pixels[near].floor().long().numpy().T
    image, colors = capture.read_image(index), points.colors[near.numpy()]
    match = correlation(image[y, x], colors)
    assert match > 0.7
    assert match > correlation(image[:, ::-1][y, x], colors) + 0.4
    assert match > correlation(image[::-1][y, x], colors) + 0.2
    assert match > correlation(image[y, x], colors[:, ::-1])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel().astype(float), second.ravel().astype(float))[0, 1])
