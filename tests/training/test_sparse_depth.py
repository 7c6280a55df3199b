"""Sparse depth from points: occluded points are dropped, and distances are along the ray."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from blocknerf.cameras import CameraModel, Cameras, look_at
from blocknerf.capture.points import PointCloud
from blocknerf.training.depth_buffer import LEVELS, OCCLUSION_MARGIN
from blocknerf.training.sparse_depth import DepthCloud, SparseDepth, median_point_spacing
from blocknerf.view_frusta import ViewFrusta

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
    depths = DepthCloud(cloud, SPACING).project(ViewFrusta(camera), 0)
    assert len(depths.distances) > 800
    assert torch.allclose(x_coordinates(depths, camera), torch.tensor(3.0), atol=1e-3)


def test_points_next_to_the_front_plane_are_visible(camera: Cameras) -> None:
    cloud = merge(plane(3.0, (-1.2, 0.0)), plane(6.0, (-1.2, 1.2)))
    x = x_coordinates(DepthCloud(cloud, SPACING).project(ViewFrusta(camera), 0), camera)
    far = x > 5.0
    assert far.sum() > 300
    # The left half of the far plane is behind the near plane, except for points visible past its edge.
    assert far.sum() < 0.65 * len(plane(6.0, (-1.2, 1.2)))


def test_far_plane_alone_is_fully_visible(camera: Cameras) -> None:
    cloud = plane(6.0, (-1.2, 1.2))
    depths = DepthCloud(cloud, SPACING).project(ViewFrusta(camera), 0)
    assert len(depths.distances) == len(cloud)


def test_distances_are_along_the_ray(camera: Cameras) -> None:
    cloud = PointCloud(positions=np.array([[4.0, 2.0, 1.0]], np.float32))
    depths = DepthCloud(cloud, 0.01).project(ViewFrusta(camera), 0)
    assert float(depths.distances) == pytest.approx(21.0**0.5)
    assert torch.allclose(depths.pixels, torch.tensor([[48.0 - 60.0 * 0.5, 32.0 - 60.0 * 0.25]]))


def test_points_outside_the_view_are_dropped(camera: Cameras) -> None:
    cloud = PointCloud(positions=np.array([[-4.0, 0.0, 0.0], [4.0, 9.0, 0.0], [0.0, 0.0, 0.0]], np.float32))
    depths = DepthCloud(cloud, SPACING).project(ViewFrusta(camera), 0)
    assert depths.pixels.shape == (0, 2)
    assert depths.distances.shape == (0,)


def test_points_with_another_color_than_the_image_are_dropped(camera: Cameras) -> None:
    image = np.full((64, 96, 3), 200, np.uint8)
    image[:, :48] = 20
    cloud = plane(3.0, (-1.2, 1.2), color=200)
    depths = DepthCloud(cloud, SPACING).project(ViewFrusta(camera), 0, image)
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


def depths_of_all_points(cloud: PointCloud, cameras: Cameras, index: int) -> SparseDepth:
    """Return the depths from all points of a cloud, by a depth buffer per level."""
    points = torch.from_numpy(cloud.positions)
    pixels, z_depth, inside = cameras.project(points, index)
    focal = cameras.intrinsics[index, 0]
    inside &= focal * SPACING < 2.0 ** (LEVELS - 1) * z_depth
    pixels, z_depth, points = pixels[inside], z_depth[inside], points[inside]
    level = (focal * SPACING / z_depth).clamp_min(1.0).log2().ceil().clamp(0, LEVELS - 1)
    nearest = torch.full_like(z_depth, float("inf"))
    for number in range(LEVELS):
        column, row = (pixels / 2**number).long().unbind(-1)
        buffer = torch.full((500, 500), float("inf"))
        for r, c, depth in zip(*(values[level == number].tolist() for values in (row, column, z_depth)), strict=True):
            buffer[r, c] = min(float(buffer[r, c]), depth)
        nearest = torch.minimum(nearest, buffer[row, column])
    visible = z_depth <= nearest * (1.0 + OCCLUSION_MARGIN) + SPACING
    distances = (points[visible] - cameras.centers[index]).norm(dim=-1)
    return SparseDepth(pixels=pixels[visible], distances=distances, points=points[visible])


@pytest.mark.parametrize("model", CameraModel)
def test_depths_are_those_of_all_points_of_the_city(model: CameraModel) -> None:
    """Exactly, and in their order: the choice among too many points depends on it."""
    generator = np.random.default_rng(0)
    streets = generator.uniform([-90, -6, 0], [90, 6, 5], (20_000, 3))
    cloud = PointCloud(positions=np.concatenate([streets, streets[:, [1, 0, 2]]]).astype(np.float32))
    eyes = torch.tensor([[0.0, 0.0, 1.5], [40.0, 2.0, 1.0], [-95.0, 0.0, 30.0]])
    targets = torch.tensor([[20.0, 0.0, 1.5], [40.0, 9.0, 1.0], [0.0, 0.0, 0.0]])
    lens = torch.tensor([0.05, -0.01, 0.0, 0.0, 0.0, 0.0]).expand(3, 6)
    cameras = Cameras.pinhole(look_at(eyes, targets), focal=60.0, width=97, height=64)
    cameras = replace(cameras, model=torch.full((3,), int(model)), distortion=lens)
    depth_cloud, frusta = DepthCloud(cloud, SPACING), ViewFrusta(cameras)
    for index in range(3):
        depths, expected = depth_cloud.project(frusta, index), depths_of_all_points(cloud, cameras, index)
        assert len(expected.points) > 100
        for key in ("pixels", "distances", "points"):
            assert torch.equal(getattr(depths, key), getattr(expected, key))
