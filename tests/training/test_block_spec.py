"""Field spec and downscale that follow from a block's capture."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.partitioning.block import Block
from blocknerf.training.block_spec import default_downscale, spec_for_block

BLOCK = Block(name="b000", origin=(1.0, 2.0, 0.5), radius=4.0)


def with_image_size(capture: Capture, width: int, height: int) -> Capture:
    """Return the capture with another size of its first image."""
    first = capture.frames[0]
    intrinsics = dataclasses.replace(first.intrinsics, width=width, height=height)
    return dataclasses.replace(capture, frames=(dataclasses.replace(first, intrinsics=intrinsics), *capture.frames[1:]))


@pytest.mark.parametrize(
    ("size", "draft", "standard", "fine"),
    [
        ((24, 16), 1, 1, 1),
        ((400, 300), 1, 1, 1),
        ((401, 300), 2, 1, 1),
        ((1080, 1920), 5, 2, 1),
        ((6000, 4000), 15, 4, 1),
    ],
)
def test_downscale_depends_on_the_longest_side(
    ball: Any, size: tuple[int, int], draft: int, standard: int, fine: int
) -> None:
    capture = with_image_size(ball.clean, *size)
    assert [default_downscale(capture, preset) for preset in ("draft", "standard", "fine")] == [draft, standard, fine]


def test_field_extent_is_block_radius(ball: Any) -> None:
    spec = spec_for_block(ball.clean, BLOCK, (2, 5), "draft")
    assert (spec.origin, spec.half_extent) == (BLOCK.origin, BLOCK.radius)
    assert spec.frames == ("images/2.png", "images/5.png")
    assert 0.0 < spec.near < 0.1 * BLOCK.radius
    assert spec.far > 10 * BLOCK.radius


def test_reference_exposure_is_the_median_of_the_capture(ball: Any) -> None:
    assert spec_for_block(ball.clean, BLOCK, (0,), "draft").exposure_reference == pytest.approx(0.015)
    frames = tuple(dataclasses.replace(frame, exposure=None) for frame in ball.clean.frames)
    without_exposure = dataclasses.replace(ball.clean, frames=frames)
    assert spec_for_block(without_exposure, BLOCK, (0,), "draft").exposure_reference == 1.0


def test_preset_sets_field_size(ball: Any) -> None:
    draft, fine = (spec_for_block(ball.clean, BLOCK, (0,), preset) for preset in ("draft", "fine"))
    assert fine.log2_hashmap_size > draft.log2_hashmap_size


def test_near_plane_is_in_front_of_the_nearest_point(ball: Any, tmp_path: Path) -> None:
    directions = np.random.default_rng(0).normal(size=(4000, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    with_points = dataclasses.replace(ball.clean, image_dir=tmp_path, sparse_points="points.ply")
    near = spec_for_block(with_points, BLOCK, range(16), "draft").near
    nearest = min(
        float(np.linalg.norm(positions - np.array(frame.center), axis=-1).min()) for frame in with_points.frames
    )
    assert spec_for_block(ball.clean, BLOCK, range(16), "draft").near < near <= nearest


def test_near_plane_is_in_front_of_the_nearest_point_of_a_sparse_cloud(ball: Any, tmp_path: Path) -> None:
    """With points 20 m apart, occlusion within 25 m of the camera is unknown, but the points there still count."""
    x, y = np.meshgrid(*[np.arange(-70.0, 71.0, 20.0)] * 2)
    grid = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    ball_points = np.concatenate([np.eye(3), -np.eye(3)])
    positions = np.concatenate([grid, ball_points]).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    with_points = dataclasses.replace(ball.clean, image_dir=tmp_path, sparse_points="points.ply")
    block = dataclasses.replace(BLOCK, radius=1.0)
    assert 0.5 < spec_for_block(with_points, block, range(16), "draft").near < 2.0
