"""Fly-throughs follow the capture's way, evenly and calmly, and never leap."""

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

AHEAD, LEFT = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    name: str
    segment: str = "drive"
    camera: str = "front"
    timestamp: float | None = None


def _cameras(eyes: np.ndarray, targets: np.ndarray, focal: float = 100.0) -> Cameras:
    poses = look_at(torch.tensor(eyes, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32))
    return Cameras.pinhole(poses, focal=focal, width=200, height=100)


def _photos(count: int, segment: str = "drive", camera: str = "front") -> list[Photo]:
    return [Photo(name=f"{camera}{i}.jpg", segment=segment, camera=camera) for i in range(count)]


def _street(count: int = 40, jitter: float = 0.0) -> Cameras:
    random = np.random.default_rng(0)
    eyes = np.stack([np.arange(count) * 1.0, np.zeros(count), np.full(count, 1.5)], -1)
    targets = eyes + np.array([1.0, 0.0, 0.0]) + jitter * random.normal(size=(count, 3))
    return _cameras(eyes + jitter * random.normal(size=(count, 3)), targets)


def _steps(film: Trajectory) -> np.ndarray:
    return np.linalg.norm(np.diff(film.camera_to_world[:, :, 3].double().numpy(), axis=0), axis=-1)


def _turns(film: Trajectory) -> np.ndarray:
    """Degrees between neighbors."""
    turns = Rotation.from_matrix(film.camera_to_world[:, :, :3].double().numpy())
    return np.degrees((turns[:-1].inv() * turns[1:]).magnitude())


def test_a_straight_street_is_followed_exactly_from_end_to_end() -> None:
    film = smooth_path(_street(), _photos(40), frames=50, width=100, height=50)
    centers = film.camera_to_world[:, :, 3]
    assert len(film) == 50
    assert torch.allclose(centers[0], torch.tensor([0.0, 0.0, 1.5]), atol=1e-4)
    assert torch.allclose(centers[-1], torch.tensor([39.0, 0.0, 1.5]), atol=1e-4)
    assert np.ptp(_steps(film)) < 1e-4
    assert _turns(film).max() < 1e-3
    assert torch.allclose(film.focals, torch.full((50,), 50.0))


def test_jitter_of_poses_is_smoothed_away() -> None:
    cameras = _street(jitter=0.05)
    film = smooth_path(cameras, _photos(40), frames=120, width=100, height=50)
    looks = cameras.camera_to_world[:, :, 2]
    shaken = torch.rad2deg(torch.acos((looks[1:] * looks[:-1]).sum(-1).clamp(max=1.0)))
    assert float(shaken.median()) > 3.0
    assert _turns(film).max() < 1.0
    assert np.abs(np.diff(_turns(film))).max() < 0.1
    assert film.camera_to_world[10:-10, 1:, 3].sub(torch.tensor([0.0, 1.5])).abs().max() < 0.1


def test_speed_is_constant_though_the_car_stops_and_hurries() -> None:
    x = np.concatenate([np.linspace(0, 10, 30), np.full(20, 10.0), np.linspace(10, 60, 20)])
    eyes = np.stack([x, 0 * x, 0 * x], -1)
    film = smooth_path(_cameras(eyes, eyes + AHEAD), _photos(70), frames=100, width=100, height=50)
    assert np.ptp(_steps(film)) < 0.01 * _steps(film).mean()


def test_a_full_turn_is_taken_without_swinging_back() -> None:
    angle = np.linspace(0, 2.5 * np.pi, 60)
    eyes = 20 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    ahead = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], -1)
    film = smooth_path(_cameras(eyes, eyes + ahead), _photos(60), frames=200, width=100, height=50)
    step = np.degrees(2.5 * np.pi / 199)
    assert _turns(film)[40:-40] == pytest.approx(step, rel=0.02)
    assert _turns(film).max() < 1.1 * step
    radius = film.camera_to_world[:, :2, 3].norm(dim=-1)
    assert float((radius - 20).abs().max()) < 0.5


def test_the_longest_segment_is_followed_and_never_joined_to_another() -> None:
    short = np.stack([np.arange(10.0), np.full(10, 500.0), np.zeros(10)], -1)
    long = np.stack([np.arange(30.0), np.zeros(30), np.zeros(30)], -1)
    eyes = np.concatenate([short, long])
    photos = [*_photos(10, segment="a"), *_photos(30, segment="b")]
    cameras = _cameras(eyes, eyes + AHEAD)
    film = smooth_path(cameras, photos, frames=60, width=100, height=50)
    assert film.camera_to_world[:, 1, 3].abs().max() < 1e-4
    chosen = smooth_path(cameras, photos, frames=60, width=100, height=50, segment="a")
    assert float(chosen.camera_to_world[:, 1, 3].min()) == pytest.approx(500.0, abs=1e-3)
    with pytest.raises(RunError, match="no segment 'c'; name one of a, b"):
        smooth_path(cameras, photos, frames=60, width=100, height=50, segment="c")


def test_a_leap_within_a_segment_is_not_flown() -> None:
    x = np.concatenate([np.arange(20.0), 300 + np.arange(30.0)])
    eyes = np.stack([x, 0 * x, 0 * x], -1)
    film = smooth_path(_cameras(eyes, eyes + AHEAD), _photos(50), frames=60, width=100, height=50)
    assert float(film.camera_to_world[:, 0, 3].min()) > 299.9


def test_the_forward_camera_of_a_rig_films() -> None:
    eyes = np.stack([np.arange(20.0), np.zeros(20), np.zeros(20)], -1)
    cameras = _cameras(np.concatenate([eyes, eyes]), np.concatenate([eyes + LEFT, eyes + AHEAD]))
    photos = [*_photos(20, camera="left"), *_photos(20, camera="front")]
    passage = longest_path(cameras, photos)
    assert passage.camera == "front"
    assert passage.frames == tuple(range(20, 40))
    assert passage.length == pytest.approx(19.0)


@pytest.mark.parametrize("timed", [True, False])
def test_photographs_listed_out_of_order_are_passed_in_order(timed: bool) -> None:
    order = np.random.default_rng(1).permutation(25)
    eyes = np.stack([order.astype(float), np.zeros(25), np.zeros(25)], -1)
    photos = [Photo(name=f"img{i}.jpg", timestamp=float(i) if timed else None) for i in order]
    passage = longest_path(_cameras(eyes, eyes + AHEAD), photos)
    assert [int(order[i]) for i in passage.frames] == list(range(25))


def test_a_flight_that_looks_down_keeps_north_up() -> None:
    eyes = np.array([(x if leg % 2 == 0 else 50 - x, 12.0 * leg, 40.0) for leg in range(4) for x in range(0, 51, 10)])
    poses = look_at(torch.tensor(eyes).float(), torch.tensor(eyes).float() - torch.tensor([0, 0, 1.0]), (0.3, 1.0, 0.0))
    poses[::2, :, :2] *= -1  # Half of the photographs are taken on the way back, the other way up.
    film = smooth_path(
        Cameras.pinhole(poses, focal=100.0, width=200, height=100), _photos(24), frames=90, width=80, height=60
    )
    assert _turns(film).max() == 0.0
    assert torch.allclose(film.camera_to_world[0, :, 1], torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)
    assert np.ptp(_steps(film)) < 0.2 * _steps(film).mean()


@pytest.mark.parametrize("count", [1, 3])
def test_a_capture_that_stands_still_gives_a_still_film(count: int) -> None:
    eyes = np.zeros((count, 3))
    film = smooth_path(_cameras(eyes, eyes + AHEAD), _photos(count), frames=5, width=100, height=50)
    assert film.length == 0.0
    assert len(film) == 5


def test_two_photographs_and_one_frame_are_enough() -> None:
    eyes = np.array([[0.0, 0, 0], [4.0, 0, 0]])
    cameras = _cameras(eyes, eyes + AHEAD)
    assert smooth_path(cameras, _photos(2), frames=9, width=100, height=50).length == pytest.approx(4.0)
    assert len(smooth_path(cameras, _photos(2), frames=1, width=100, height=50)) == 1


def test_a_lens_too_wide_to_flatten_is_filmed_through_its_middle() -> None:
    eyes = np.stack([np.arange(5.0), np.zeros(5), np.zeros(5)], -1)
    film = smooth_path(_cameras(eyes, eyes + AHEAD, focal=10.0), _photos(5), frames=5, width=240, height=100)
    assert float(film.focals[0]) == pytest.approx(100.0)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(RunError, match="it has 0 frames; give 1 to"):
        smooth_path(_street(), _photos(40), frames=0, width=100, height=50)
    with pytest.raises(RunError, match="no photographs"):
        smooth_path(_street()[:0], [], frames=5, width=100, height=50)


def test_natural_order_handles_mixed_names() -> None:
    assert sorted(["b2", "10", "a10", "a9", "2"], key=natural_sort_key) == ["a9", "a10", "b2", "2", "10"]


def test_real_streets_are_filmed_calmly(real_captures: Path) -> None:
    from blocknerf.capture.transforms import read_transforms

    capture = read_transforms(real_captures / "street_kitti0005")
    cameras = capture.cameras()
    film = smooth_path(cameras, capture.frames, frames=120, width=400, height=120)
    assert film.length == pytest.approx(69.6, abs=1.0)
    assert np.ptp(_steps(film)) < 0.01
    assert _turns(film).max() < 3.0
    assert np.abs(np.diff(_turns(film))).max() < 0.5
    nearest = torch.cdist(film.camera_to_world[:, :, 3], cameras.centers).amin(1)
    assert float(nearest.max()) < 0.6
