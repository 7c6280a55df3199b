"""Sparse depth from points: occluded points are dropped, and distances are along the ray."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras, look_at
from blocknerf.capture.points import PointCloud
from blocknerf.training.sparse_depth import SparseDepth, median_point_spacing, project_depths

SPACING = 0.05


def plane(x: float, y_range: tuple[float, float], color: int | None = None) -> PointCloud:
    """Return a grid of points across the x axis, two meters high."""
    y, z = np.meshgrid(np.arange(*y_range, SPACING), np.arange(-1.0, 1.0, SPACING))
    positions = np.stack([np.full_like(y, x), y, z], -1).reshape(-1, 3).astype(np.float32)
    return PointCloud(positions=positions, colors=None if color is None else np.full(positions.shape, color, np.uint8))


def merge(*clouds: PointCloud) -> PointCloud:
    colors = [cloud.colors for cloud in clouds]
    return PointCloud(
        positions=np.concatenate([cloud.positions for cloud in clouds]),
        colors=None if any(color is None for color in colors) else np.concatenate(colors),
    )


@pytest.fixture(scope="module")
def camera() -> Cameras:
    pose = look_at(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    return Cameras.pinhole(pose, focal=60.0, width=96, height=64)


def x_coordinates(depths: SparseDepth, camera: Cameras) -> torch.Tensor:
    """Return the x coordinate of each measured point."""
    rays = camera.rays(torch.zeros(len(depths.pixels), dtype=torch.int64), depths.pixels)
    return rays.directions[:, 0] * depths.distances


def test_plane_occludes_the_plane_behind_it(camera: Cameras) -> None:
    cloud = merge(plane(3.0, (-1.2, 1.2)), plane(6.0, (-1.2, 1.2)))
    depths = project_depths(cloud, camera, 0, SPACING)
    assert len(depths.distances) > 800
    assert torch.allclose(x_coordinates(depths, camera), torch.tensor(3.0), atol=1e-3)


def test_points_next_to_the_front_plane_are_visible(camera: Cameras) -> None:
    cloud = merge(plane(3.0, (-1.2, 0.0)), plane(6.0, (-1.2, 1.2)))
    x = x_coordinates(project_depths(cloud, camera, 0, SPACING), camera)
    far = x > 5.0
    assert far.sum() > 300
    # The left half of the far plane is behind the near plane, except for points visible past its edge.
    assert far.sum() < 0.65 * len(plane(6.0, (-1.2, 1.2)))


def test_far_plane_alone_is_fully_visible(camera: Cameras) -> None:
    cloud = plane(6.0, (-1.2, 1.2))
    depths = project_depths(cloud, camera, 0, SPACING)
    assert len(depths.distances) == len(cloud)


def test_distances_are_along_the_ray(camera: Cameras) -> None:
    cloud = PointCloud(positions=np.array([[4.0, 2.0, 1.0]], np.float32))
    depths = project_depths(cloud, camera, 0, 0.01)
    assert float(depths.distances) == pytest.approx(21.0**0.5)
    assert torch.allclose(depths.pixels, torch.tensor([[48.0 - 60.0 * 0.5, 32.0 - 60.0 * 0.25]]))


def test_points_outside_the_view_are_dropped(camera: Cameras) -> None:
    cloud = PointCloud(positions=np.array([[-4.0, 0.0, 0.0], [4.0, 9.0, 0.0], [0.0, 0.0, 0.0]], np.float32))
    depths = project_depths(cloud, camera, 0, SPACING)
    assert depths.pixels.shape == (0, 2)
    assert depths.distances.shape == (0,)


def test_points_with_another_color_than_the_image_are_dropped(camera: Cameras) -> None:
    image = np.full((64, 96, 3), 200, np.uint8)
    image[:, :48] = 20
    cloud = plane(3.0, (-1.2, 1.2), color=200)
    depths = project_depths(cloud, camera, 0, SPACING, image)
    assert 0.4 * len(cloud) < len(depths.distances) < 0.6 * len(cloud)
    assert float(depths.pixels[:, 0].min()) >= 48.0


@pytest.mark.parametrize("step", [0.1, 3.0])
def test_median_spacing_of_a_grid_is_its_step(step: float) -> None:
    axis = step * np.arange(12)
    grid = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    assert median_point_spacing(grid) == pytest.approx(step)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_median_spacing_of_few_points_is_finite(count: int) -> None:
    spacing: Callable[..., float] = median_point_spacing
    assert 0.0 <= spacing(np.eye(3)[:count]) < 2.0
