"""Pose errors exclude a common rigid motion, which images cannot reveal."""

import pytest
import torch
from torch import Tensor

from blocknerf.geometry import compose, se3_exp
from tests.benchmarks.paper.pose_error import pose_error


def poses(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tangents = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return se3_exp(tangents * torch.tensor([20.0, 20.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64))


def motion(*numbers: float) -> Tensor:
    return se3_exp(torch.tensor(numbers, dtype=torch.float64))


def test_true_poses_have_no_error() -> None:
    assert pose_error(poses(5), poses(5)) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_a_common_motion_is_not_an_error() -> None:
    truth = poses(7)
    moved = compose(motion(3.0, -2.0, 0.5, 0.4, -0.2, 0.9).expand(7, 3, 4), truth)
    assert pose_error(moved, truth) == pytest.approx((0.0, 0.0), abs=1e-5)


def test_moving_half_of_the_cameras_is_half_the_error_for_all() -> None:
    truth = poses(8)
    moved = truth.clone()
    moved[:4, 0, 3] += 0.2
    centimeters, degrees = pose_error(moved, truth)
    assert centimeters == pytest.approx(10.0, abs=1e-6)
    assert degrees == pytest.approx(0.0, abs=1e-5)


def test_small_rotations_are_resolved_in_single_precision() -> None:
    truth = poses(2)
    truth[:, :, 3] = 0.0
    rotations = torch.stack([motion(0, 0, 0, 0, 0, 0.001), motion(0, 0, 0, 0, 0, -0.001)])
    _, degrees = pose_error(compose(rotations, truth).float(), truth.float())
    assert degrees == pytest.approx(0.0573, abs=3e-4)
