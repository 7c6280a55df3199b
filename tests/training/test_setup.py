"""Set-up of a training from Python: the field spec of a block, and the trainer."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.errors import OptionError
from blocknerf.kernels.backends import BackendWarning
from blocknerf.partitioning.block import Block
from blocknerf.training import config as config_module
from blocknerf.training.setup import default_downscale, make_config, make_trainer, spec_for_block

BLOCK = Block(name="b000", origin=(0.0, 0.0, 0.0), radius=2.0)
FRAMES = (0, 2, 4)
SMALL = {"log2_hashmap_size": 8, "num_levels": 2, "num_proposal_samples": 8, "num_samples": 4}


def test_the_seed_and_the_configuration_decide_the_result(ball: Any) -> None:
    config = make_config(ball.clean, FRAMES, steps=5, seed=3, rays_per_step=64)
    trainers = [make_trainer(ball.clean, BLOCK, FRAMES, config=config, field=SMALL) for _ in range(2)]
    losses = [[trainer.train_step().loss for _ in range(3)] for trainer in trainers]
    assert losses[0] == losses[1]
    assert trainers[0].field.spec.num_levels == 2
    assert trainers[0].config.steps == 5


def test_the_default_configuration_is_the_presets(ball: Any) -> None:
    trainer = make_trainer(ball.clean, BLOCK, FRAMES)
    assert trainer.config == make_config(ball.clean, FRAMES)
    assert trainer.exposures.tolist() == pytest.approx([0.01] * 3)


@pytest.mark.filterwarnings(f"ignore::{BackendWarning.__module__}.{BackendWarning.__name__}")
@pytest.mark.parametrize("name", [name for name in config_module.PARAMETERS["field"] if name not in ("near", "far")])
def test_a_field_trains_with_the_least_value_of_each_parameter(ball: Any, name: str) -> None:
    least = int(config_module._range(name, int)[0])
    values = {**SMALL, name: least, **({"base_resolution": 1} if name == "max_resolution" else {})}
    config = make_config(ball.clean, FRAMES, steps=1, rays_per_step=32)
    metrics = make_trainer(ball.clean, BLOCK, FRAMES, config=config, field=values).train_step()
    assert torch.isfinite(metrics.values).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_resolution": 8}, "--set: field.base_resolution 16 exceeds field.max_resolution 8; set both"),
        ({"near": 9.0, "far": 3.0}, "--set: field.near 9 exceeds field.far 3; set both"),
    ],
)
def test_contradictory_field_parameters_are_refused(ball: Any, values: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_trainer(ball.clean, BLOCK, FRAMES, field=values)


BALL_BLOCK = Block(name="b000", origin=(1.0, 2.0, 0.5), radius=4.0)


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
    spec = spec_for_block(ball.clean, BALL_BLOCK, (2, 5), "draft")
    assert (spec.origin, spec.half_extent) == (BALL_BLOCK.origin, BALL_BLOCK.radius)
    assert spec.frames == ("images/2.png", "images/5.png")
    assert 0.0 < spec.near < 0.1 * BALL_BLOCK.radius
    assert spec.far > 10 * BALL_BLOCK.radius


def test_reference_exposure_is_the_median_of_the_capture(ball: Any) -> None:
    exposed = [dataclasses.replace(frame, exposure=0.01 * 2.0 ** (i % 2)) for i, frame in enumerate(ball.clean.frames)]
    alternating = dataclasses.replace(ball.clean, frames=tuple(exposed))
    assert spec_for_block(alternating, BALL_BLOCK, (0,), "draft").exposure_reference == pytest.approx(0.015)
    frames = tuple(dataclasses.replace(frame, exposure=None) for frame in ball.clean.frames)
    without_exposure = dataclasses.replace(ball.clean, frames=frames)
    assert spec_for_block(without_exposure, BALL_BLOCK, (0,), "draft").exposure_reference == 1.0


def test_preset_sets_field_size(ball: Any) -> None:
    draft, fine = (spec_for_block(ball.clean, BALL_BLOCK, (0,), preset) for preset in ("draft", "fine"))
    assert fine.log2_hashmap_size > draft.log2_hashmap_size


def test_near_plane_is_in_front_of_the_nearest_point(ball: Any, tmp_path: Path) -> None:
    directions = np.random.default_rng(0).normal(size=(4000, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    with_points = dataclasses.replace(ball.clean, image_dir=tmp_path, sparse_points="points.ply")
    near = spec_for_block(with_points, BALL_BLOCK, range(16), "draft").near
    nearest = min(
        float(np.linalg.norm(positions - np.array(frame.center), axis=-1).min()) for frame in with_points.frames
    )
    assert spec_for_block(ball.clean, BALL_BLOCK, range(16), "draft").near < near <= nearest


def test_near_plane_is_in_front_of_the_nearest_point_of_a_sparse_cloud(ball: Any, tmp_path: Path) -> None:
    """With points 20 m apart, occlusion within 25 m of the camera is unknown, but the points there still count."""
    x, y = np.meshgrid(*[np.arange(-70.0, 71.0, 20.0)] * 2)
    grid = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    ball_points = np.concatenate([np.eye(3), -np.eye(3)])
    positions = np.concatenate([grid, ball_points]).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    with_points = dataclasses.replace(ball.clean, image_dir=tmp_path, sparse_points="points.ply")
    block = dataclasses.replace(BALL_BLOCK, radius=1.0)
    assert 0.5 < spec_for_block(with_points, block, range(16), "draft").near < 2.0
