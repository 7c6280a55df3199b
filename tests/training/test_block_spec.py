"""What a block's field takes from its capture without being told."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.partition.block import Block
from blocknerf.training.block_spec import default_downscale, spec_for_block

BLOCK = Block(name="b000", origin=(1.0, 2.0, 0.5), radius=4.0)


def resized(capture: Capture, width: int, height: int) -> Capture:
    """The capture as if its first photograph had this size."""
    first = capture.frames[0]
    lens = dataclasses.replace(first.intrinsics, width=width, height=height)
    return dataclasses.replace(capture, frames=(dataclasses.replace(first, intrinsics=lens), *capture.frames[1:]))


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
def test_the_longest_side_decides_on_the_downscale(
    ball: Any, size: tuple[int, int], draft: int, standard: int, fine: int
) -> None:
    capture = resized(ball.clean, *size)
    assert [default_downscale(capture, preset) for preset in ("draft", "standard", "fine")] == [draft, standard, fine]


def test_the_field_is_as_wide_as_the_block(ball: Any) -> None:
    spec = spec_for_block(ball.clean, BLOCK, (2, 5), "draft")
    assert (spec.origin, spec.half_extent) == (BLOCK.origin, BLOCK.radius)
    assert spec.frames == ("images/2.png", "images/5.png")
    assert 0.0 < spec.near < 0.1 * BLOCK.radius
    assert spec.far > 10 * BLOCK.radius


def test_the_reference_exposure_is_the_captures_own(ball: Any) -> None:
    assert spec_for_block(ball.clean, BLOCK, (0,), "draft").exposure_reference == pytest.approx(0.015)
    frames = tuple(dataclasses.replace(frame, exposure=None) for frame in ball.clean.frames)
    plain = dataclasses.replace(ball.clean, frames=frames)
    assert spec_for_block(plain, BLOCK, (0,), "draft").exposure_reference == 1.0


def test_the_preset_reaches_the_field(ball: Any) -> None:
    draft, fine = (spec_for_block(ball.clean, BLOCK, (0,), preset) for preset in ("draft", "fine"))
    assert fine.log2_hashmap_size > draft.log2_hashmap_size


def test_rays_begin_before_the_nearest_measured_point(ball: Any, tmp_path: Path) -> None:
    directions = np.random.default_rng(0).normal(size=(4000, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    measured = dataclasses.replace(ball.clean, image_dir=tmp_path, sparse_points="points.ply")
    near = spec_for_block(measured, BLOCK, range(16), "draft").near
    nearest = min(float(np.linalg.norm(positions - np.array(frame.center), axis=-1).min()) for frame in measured.frames)
    assert spec_for_block(ball.clean, BLOCK, range(16), "draft").near < near <= nearest


def test_rays_begin_before_the_nearest_of_few_points(ball: Any, tmp_path: Path) -> None:
    """Points 20 m apart: by them nobody can say what hides what within 25 m of the camera, but they stand there."""
    x, y = np.meshgrid(*[np.arange(-70.0, 71.0, 20.0)] * 2)
    lattice = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    ball_points = np.concatenate([np.eye(3), -np.eye(3)])
    positions = np.concatenate([lattice, ball_points]).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    measured = dataclasses.replace(ball.clean, image_dir=tmp_path, sparse_points="points.ply")
    block = dataclasses.replace(BLOCK, radius=1.0)
    assert 0.5 < spec_for_block(measured, block, range(16), "draft").near < 2.0
