"""Films through keyframes pass every one of them, without haste."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from blocknerf.cameras import look_at
from blocknerf.errors import RunError
from blocknerf.trajectory.keyframes import through_keyframes


def _poses(eyes: list[list[float]], targets: list[list[float]]) -> torch.Tensor:
    return look_at(torch.tensor(eyes), torch.tensor(targets))


def test_every_keyframe_is_passed() -> None:
    eyes = [[0.0, 0.0, 1.0], [10.0, 0.0, 1.0], [20.0, 0.0, 1.0]]
    poses = _poses(eyes, [[1.0, 5.0, 1.0], [11.0, 5.0, 1.0], [21.0, 5.0, 1.0]])
    film = through_keyframes(poses, torch.tensor([100.0, 50.0, 100.0]), frames=21, width=64, height=48)
    assert torch.allclose(film.camera_to_world[[0, 10, 20]], poses, atol=1e-5)
    assert torch.allclose(film.focals[[0, 10, 20]], torch.tensor([100.0, 50.0, 100.0]), atol=1e-3)
    assert float(film.focals[5]) == pytest.approx(50.0 * 2**0.5, rel=1e-5)


def test_a_pan_in_place_turns_evenly_and_the_shorter_way() -> None:
    poses = _poses([[0.0, 0.0, 0.0]] * 2, [[1.0, 0.0, 0.0], [-0.2, 1.0, 0.0]])
    film = through_keyframes(poses, torch.ones(2), frames=31, width=8, height=8)
    turns = Rotation.from_matrix(film.camera_to_world[:, :, :3].double().numpy())
    angles = np.degrees((turns[:-1].inv() * turns[1:]).magnitude())
    assert angles.sum() == pytest.approx(np.degrees(np.arctan2(1.0, -0.2)), abs=0.01)
    assert angles == pytest.approx(angles.mean(), rel=1e-3)
    assert film.length == 0.0


def test_the_rate_of_turn_has_no_steps() -> None:
    eyes = [[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [20.0, 4.0, 0.0], [26.0, 12.0, 0.0]]
    targets = [[10.0, 0.0, 0.0], [20.0, 1.0, 0.0], [26.0, 10.0, 0.0], [26.0, 22.0, 0.0]]
    film = through_keyframes(_poses(eyes, targets), torch.ones(4), frames=400, width=8, height=8)
    turns = Rotation.from_matrix(film.camera_to_world[:, :, :3].double().numpy())
    rates = (turns[:-1].inv() * turns[1:]).as_rotvec()
    assert np.linalg.norm(np.diff(rates, axis=0), axis=-1).max() < 0.05 * np.linalg.norm(rates, axis=-1).max()


def test_too_few_or_equal_keyframes_are_refused() -> None:
    poses = _poses([[0.0, 0.0, 0.0]] * 3, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    with pytest.raises(RunError, match="keyframes 1 and 2 are the same view"):
        through_keyframes(poses, torch.ones(3), frames=5, width=8, height=8)
    with pytest.raises(RunError, match="1 keyframes"):
        through_keyframes(poses[:1], torch.ones(1), frames=5, width=8, height=8)
