"""Trajectories pass through all keyframes, with smooth motion."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from blocknerf.cameras import look_at
from blocknerf.errors import RunError
from blocknerf.trajectory.keyframes import through_keyframes


def _poses(eyes: list[list[float]], targets: list[list[float]]) -> torch.Tensor:
    return look_at(torch.tensor(eyes), torch.tensor(targets))


def test_trajectory_passes_through_every_keyframe() -> None:
    eyes = [[0.0, 0.0, 1.0], [10.0, 0.0, 1.0], [20.0, 0.0, 1.0]]
    poses = _poses(eyes, [[1.0, 5.0, 1.0], [11.0, 5.0, 1.0], [21.0, 5.0, 1.0]])
    trajectory = through_keyframes(poses, torch.tensor([100.0, 50.0, 100.0]), frames=21, width=64, height=48)
    assert torch.allclose(trajectory.camera_to_world[[0, 10, 20]], poses, atol=1e-5)
    assert torch.allclose(trajectory.focals[[0, 10, 20]], torch.tensor([100.0, 50.0, 100.0]), atol=1e-3)
    assert float(trajectory.focals[5]) == pytest.approx(50.0 * 2**0.5, rel=1e-5)


def test_pan_has_constant_speed_and_takes_the_shorter_direction() -> None:
    poses = _poses([[0.0, 0.0, 0.0]] * 2, [[1.0, 0.0, 0.0], [-0.2, 1.0, 0.0]])
    trajectory = through_keyframes(poses, torch.ones(2), frames=31, width=8, height=8)
    rotations = Rotation.from_matrix(trajectory.camera_to_world[:, :, :3].double().numpy())
    angles = np.degrees((rotations[:-1].inv() * rotations[1:]).magnitude())
    assert angles.sum() == pytest.approx(np.degrees(np.arctan2(1.0, -0.2)), abs=0.01)
    assert angles == pytest.approx(angles.mean(), rel=1e-3)
    assert trajectory.length == 0.0


def test_angular_velocity_is_continuous() -> None:
    eyes = [[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [20.0, 4.0, 0.0], [26.0, 12.0, 0.0]]
    targets = [[10.0, 0.0, 0.0], [20.0, 1.0, 0.0], [26.0, 10.0, 0.0], [26.0, 22.0, 0.0]]
    trajectory = through_keyframes(_poses(eyes, targets), torch.ones(4), frames=400, width=8, height=8)
    rotations = Rotation.from_matrix(trajectory.camera_to_world[:, :, :3].double().numpy())
    velocities = (rotations[:-1].inv() * rotations[1:]).as_rotvec()
    assert np.linalg.norm(np.diff(velocities, axis=0), axis=-1).max() < 0.05 * np.linalg.norm(velocities, axis=-1).max()


def test_too_few_or_equal_keyframes_are_rejected() -> None:
    poses = _poses([[0.0, 0.0, 0.0]] * 3, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    with pytest.raises(RunError, match="keyframes 1 and 2 are the same view"):
        through_keyframes(poses, torch.ones(3), frames=5, width=8, height=8)
    with pytest.raises(RunError, match="1 keyframes"):
        through_keyframes(poses[:1], torch.ones(1), frames=5, width=8, height=8)
