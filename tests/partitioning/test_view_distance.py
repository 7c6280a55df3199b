"""The distance of the scene is measured from points or from matched features, and decides where a single block does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture import read_transforms
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Intrinsics
from blocknerf.images import write_image
from blocknerf.partitioning.placement import place_blocks
from blocknerf.partitioning.view_distance import view_distance
from tests.capture.worlds import drone, forward_facing, with_points

DISTANCE = 12.0


@pytest.fixture
def wall(tmp_path: Path) -> Capture:
    """A forward-facing capture of a textured wall at `DISTANCE`, larger than every view, without points."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (60, 80), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((8, 8), np.uint8))
    lens = Intrinsics(width=160, height=120, fx=200.0, fy=200.0, cx=80.0, cy=60.0)
    per_unit = lens.fx / DISTANCE
    capture = forward_facing()
    for frame in capture.frames:
        x, _, z = frame.center
        column, row = round(x * per_unit) + 200, round(-z * per_unit) + 200
        write_image(tmp_path / frame.image, texture[row : row + 120, column : column + 160])
    frames = tuple(replace(frame, intrinsics=lens) for frame in capture.frames)
    return replace(capture, image_dir=tmp_path, frames=frames)


def test_matched_features_measure_the_distance_of_a_wall(wall: Capture) -> None:
    assert view_distance(wall) == pytest.approx(DISTANCE, rel=0.1)


def test_points_measure_the_distance_of_the_ground(tmp_path: Path) -> None:
    assert view_distance(with_points(drone(), tmp_path)) == pytest.approx(43.0, rel=0.1)


def test_images_without_features_measure_nothing(wall: Capture) -> None:
    for frame in wall.frames:
        write_image(wall.image_dir / frame.image, np.full((120, 160), 128, np.uint8))
    assert view_distance(wall) is None


def test_cameras_that_stand_close_together_and_look_far_get_one_block(wall: Capture) -> None:
    (block,) = place_blocks(wall)
    assert block.radius == pytest.approx(DISTANCE, rel=0.1)
    centers = np.array([frame.center for frame in wall.frames])
    assert np.allclose(block.origin, (centers.min(0) + centers.max(0)) / 2, atol=1e-5)
    assert len(place_blocks(wall, "route", 0.5)) > 1, "a given radius is the user's decision"


@pytest.mark.parametrize(("name", "low", "high"), [("llff_fern", 25, 45), ("llff_flower", 50, 110)])
def test_published_forward_facing_scenes_get_one_block(name: str, low: float, high: float, real_captures: Path) -> None:
    (block,) = place_blocks(read_transforms(real_captures / name))
    assert low < block.radius < high
