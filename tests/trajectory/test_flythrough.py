"""Fly-throughs follow the capture's path smoothly, at constant speed and without jumps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from blocknerf.cameras import Cameras, look_at
from blocknerf.errors import RunError
from blocknerf.trajectory.capture_path import longest_path, natural_sort_key
from blocknerf.trajectory.flythrough import smooth_path
from blocknerf.trajectory.trajectory import Trajectory

FORWARD, LEFT = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFrame:
    name: str
    segment: str = "a"
    camera: str = "front"
    timestamp: float | None = None


def _cameras(eyes: np.ndarray, targets: np.ndarray, focal: float = 100.0) -> Cameras:
    poses = look_at(torch.tensor(eyes, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32))
    return Cameras.pinhole(poses, focal=focal, width=200, height=100)


def _frames(count: int, segment: str = "a", camera: str = "front") -> list[ImageFrame]:
    return [ImageFrame(name=f"{camera}{i}.jpg", segment=segment, camera=camera) for i in range(count)]


def _street(count: int = 40, jitter: float = 0.0) -> Cameras:
    random = np.random.default_rng(0)
    eyes = np.stack([np.arange(count) * 1.0, np.zeros(count), np.full(count, 1.5)], -1)
    targets = eyes + np.array([1.0, 0.0, 0.0]) + jitter * random.normal(size=(count, 3))
    return _cameras(eyes + jitter * random.normal(size=(count, 3)), targets)


def _distances(trajectory: Trajectory) -> np.ndarray:
    return np.linalg.norm(np.diff(trajectory.camera_to_world[:, :, 3].double().numpy(), axis=0), axis=-1)


def _angles(trajectory: Trajectory) -> np.ndarray:
    """Return the rotation angles between consecutive frames, in degrees."""
    rotations = Rotation.from_matrix(trajectory.camera_to_world[:, :, :3].double().numpy())
    return np.degrees((rotations[:-1].inv() * rotations[1:]).magnitude())


def test_straight_street_is_followed_exactly() -> None:
    trajectory = smooth_path(_street(), _frames(40), frames=50, width=100, height=50)
    centers = trajectory.camera_to_world[:, :, 3]
    assert len(trajectory) == 50
    assert torch.allclose(centers[0], torch.tensor([0.0, 0.0, 1.5]), atol=1e-4)
    assert torch.allclose(centers[-1], torch.tensor([39.0, 0.0, 1.5]), atol=1e-4)
    assert np.ptp(_distances(trajectory)) < 1e-4
    assert _angles(trajectory).max() < 1e-3
    assert torch.allclose(trajectory.focals, torch.full((50,), 50.0))


def test_pose_jitter_is_smoothed() -> None:
    cameras = _street(jitter=0.05)
    trajectory = smooth_path(cameras, _frames(40), frames=120, width=100, height=50)
    directions = cameras.camera_to_world[:, :, 2]
    input_angles = torch.rad2deg(torch.acos((directions[1:] * directions[:-1]).sum(-1).clamp(max=1.0)))
    assert float(input_angles.median()) > 3.0
    assert _angles(trajectory).max() < 1.0
    assert np.abs(np.diff(_angles(trajectory))).max() < 0.1
    assert trajectory.camera_to_world[10:-10, 1:, 3].sub(torch.tensor([0.0, 1.5])).abs().max() < 0.1


def test_speed_is_constant_for_a_car_that_stops_and_accelerates() -> None:
    x = np.concatenate([np.linspace(0, 10, 30), np.full(20, 10.0), np.linspace(10, 60, 20)])
    eyes = np.stack([x, 0 * x, 0 * x], -1)
    trajectory = smooth_path(_cameras(eyes, eyes + FORWARD), _frames(70), frames=100, width=100, height=50)
    assert np.ptp(_distances(trajectory)) < 0.01 * _distances(trajectory).mean()


def test_full_turn_has_constant_angular_velocity() -> None:
    angle = np.linspace(0, 2.5 * np.pi, 60)
    eyes = 20 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    forward = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], -1)
    trajectory = smooth_path(_cameras(eyes, eyes + forward), _frames(60), frames=200, width=100, height=50)
    step = np.degrees(2.5 * np.pi / 199)
    assert _angles(trajectory)[40:-40] == pytest.approx(step, rel=0.02)
    assert _angles(trajectory).max() < 1.1 * step
    radius = trajectory.camera_to_world[:, :2, 3].norm(dim=-1)
    assert float((radius - 20).abs().max()) < 0.5


def test_longest_segment_is_followed_and_not_joined_to_another() -> None:
    short = np.stack([np.arange(10.0), np.full(10, 500.0), np.zeros(10)], -1)
    long = np.stack([np.arange(30.0), np.zeros(30), np.zeros(30)], -1)
    eyes = np.concatenate([short, long])
    frames = [*_frames(10, segment="a"), *_frames(30, segment="b")]
    cameras = _cameras(eyes, eyes + FORWARD)
    trajectory = smooth_path(cameras, frames, frames=60, width=100, height=50)
    assert trajectory.camera_to_world[:, 1, 3].abs().max() < 1e-4
    chosen = smooth_path(cameras, frames, frames=60, width=100, height=50, segment="a")
    assert float(chosen.camera_to_world[:, 1, 3].min()) == pytest.approx(500.0, abs=1e-3)
    with pytest.raises(RunError, match="no segment 'c'; use one of a, b"):
        smooth_path(cameras, frames, frames=60, width=100, height=50, segment="c")


def test_path_does_not_cross_a_gap() -> None:
    x = np.concatenate([np.arange(20.0), 300 + np.arange(30.0)])
    eyes = np.stack([x, 0 * x, 0 * x], -1)
    trajectory = smooth_path(_cameras(eyes, eyes + FORWARD), _frames(50), frames=60, width=100, height=50)
    assert float(trajectory.camera_to_world[:, 0, 3].min()) > 299.9


def test_forward_camera_of_a_rig_is_used() -> None:
    eyes = np.stack([np.arange(20.0), np.zeros(20), np.zeros(20)], -1)
    cameras = _cameras(np.concatenate([eyes, eyes]), np.concatenate([eyes + LEFT, eyes + FORWARD]))
    frames = [*_frames(20, camera="left"), *_frames(20, camera="front")]
    path = longest_path(cameras, frames)
    assert path.camera == "front"
    assert path.frames == tuple(range(20, 40))
    assert path.length == pytest.approx(19.0)


@pytest.mark.parametrize("timed", [True, False])
def test_unordered_frames_are_sorted(timed: bool) -> None:
    order = np.random.default_rng(1).permutation(25)
    eyes = np.stack([order.astype(float), np.zeros(25), np.zeros(25)], -1)
    frames = [ImageFrame(name=f"img{i}.jpg", timestamp=float(i) if timed else None) for i in order]
    path = longest_path(_cameras(eyes, eyes + FORWARD), frames)
    assert [int(order[i]) for i in path.frames] == list(range(25))


def test_aerial_capture_keeps_north_up() -> None:
    eyes = np.array([(x if leg % 2 == 0 else 50 - x, 12.0 * leg, 40.0) for leg in range(4) for x in range(0, 51, 10)])
    poses = look_at(torch.tensor(eyes).float(), torch.tensor(eyes).float() - torch.tensor([0, 0, 1.0]), (0.3, 1.0, 0.0))
    poses[::2, :, :2] *= -1  # half of the images are captured in the opposite direction, upside down
    trajectory = smooth_path(
        Cameras.pinhole(poses, focal=100.0, width=200, height=100), _frames(24), frames=90, width=80, height=60
    )
    assert _angles(trajectory).max() == 0.0
    assert torch.allclose(trajectory.camera_to_world[0, :, 1], torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)
    assert np.ptp(_distances(trajectory)) < 0.2 * _distances(trajectory).mean()


@pytest.mark.parametrize("count", [1, 3])
def test_static_capture_has_a_static_trajectory(count: int) -> None:
    eyes = np.zeros((count, 3))
    trajectory = smooth_path(_cameras(eyes, eyes + FORWARD), _frames(count), frames=5, width=100, height=50)
    assert trajectory.length == 0.0
    assert len(trajectory) == 5


def test_two_images_and_one_frame_are_enough() -> None:
    eyes = np.array([[0.0, 0, 0], [4.0, 0, 0]])
    cameras = _cameras(eyes, eyes + FORWARD)
    assert smooth_path(cameras, _frames(2), frames=9, width=100, height=50).length == pytest.approx(4.0)
    assert len(smooth_path(cameras, _frames(2), frames=1, width=100, height=50)) == 1


def test_wide_lens_is_cropped_to_its_center() -> None:
    eyes = np.stack([np.arange(5.0), np.zeros(5), np.zeros(5)], -1)
    trajectory = smooth_path(_cameras(eyes, eyes + FORWARD, focal=10.0), _frames(5), frames=5, width=240, height=100)
    assert float(trajectory.focals[0]) == pytest.approx(100.0)


def test_invalid_requests_are_rejected() -> None:
    with pytest.raises(RunError, match="it has 0 frames; use 1 to"):
        smooth_path(_street(), _frames(40), frames=0, width=100, height=50)
    with pytest.raises(RunError, match="the capture has no images to follow"):
        smooth_path(_street()[:0], [], frames=5, width=100, height=50)


def test_natural_sort_key_supports_mixed_names() -> None:
    assert sorted(["b2", "10", "a10", "a9", "2"], key=natural_sort_key) == ["a9", "a10", "b2", "2", "10"]


def test_real_street_is_smooth(real_captures: Path) -> None:
    from blocknerf.capture.transforms import read_transforms

    capture = read_transforms(real_captures / "street_kitti0005")
    cameras = capture.cameras()
    trajectory = smooth_path(cameras, capture.frames, frames=120, width=400, height=120)
    assert trajectory.length == pytest.approx(69.6, abs=1.0)
    assert np.ptp(_distances(trajectory)) < 0.01
    assert _angles(trajectory).max() < 3.0
    assert np.abs(np.diff(_angles(trajectory))).max() < 0.5
    nearest = torch.cdist(trajectory.camera_to_world[:, :, 3], cameras.centers).amin(1)
    assert float(nearest.max()) < 0.6
