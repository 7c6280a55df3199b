"""Robust mask: outliers are masked per image, in regions with many outliers only."""

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.training.robust_mask import InlierTracker

WIDTH, HEIGHT = 192, 108
CAR = (60, 40, 100, 70)
FRACTION = 0.1


def make_tracker(frames: int, width: int = WIDTH, height: int = HEIGHT) -> InlierTracker:
    poses = torch.eye(4)[:3].expand(frames, 3, 4)
    return InlierTracker(Cameras.pinhole(poses, focal=100.0, width=width, height=height))


def sample_errors(tracker: InlierTracker, car: tuple[int, int, int, int], *, steps: int, scale: float = 1.0) -> Tensor:
    """Update a tracker with random pixels, with larger errors on a car in the first image; return the inliers there.

    The result is the fraction of inliers on the car in the last step. `scale` multiplies all errors of the first image.
    """
    generator = torch.Generator().manual_seed(0)
    left, top, right, bottom = car
    for _ in range(steps):
        frames = torch.randint(0, len(tracker.sizes), (400,), generator=generator)
        pixels = torch.rand(400, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
        x, y = pixels.unbind(-1)
        on_car = (frames == 0) & (x > left) & (x < right) & (y > top) & (y < bottom)
        errors = 0.01 * torch.rand(400, generator=generator) + 0.05 * on_car
        inliers = tracker.inlier_mask(frames, pixels, torch.where(frames == 0, scale, 1.0) * errors, FRACTION)
    return inliers[on_car].float().mean()


def is_inlier(tracker: InlierTracker, x: float, y: float, frame: int = 0) -> bool:
    """Return whether an outlier at a pixel is treated as an inlier."""
    return bool(tracker.inlier_mask(torch.tensor([frame]), torch.tensor([[float(x), float(y)]]), torch.ones(1), 1.0))


def test_first_outliers_are_inliers() -> None:
    tracker = make_tracker(1)
    assert all(is_inlier(tracker, 10.0 + 20.0 * i, 50.0) for i in range(9))


def test_car_is_masked_in_its_image_only() -> None:
    tracker = make_tracker(2)
    assert sample_errors(tracker, CAR, steps=1) == 1.0
    assert sample_errors(tracker, CAR, steps=30) < 0.2
    assert not is_inlier(tracker, 80.0, 55.0)
    assert is_inlier(tracker, 80.0, 55.0, frame=1)
    assert is_inlier(tracker, 20.0, 20.0)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_errors_are_relative_to_the_mean_of_their_image(scale: float) -> None:
    tracker = make_tracker(2)
    assert sample_errors(tracker, CAR, steps=30, scale=scale) < 0.2
    assert is_inlier(tracker, 20.0, 20.0)
    assert is_inlier(tracker, 20.0, 20.0, frame=1)


def test_small_error_among_outliers_is_an_inlier() -> None:
    tracker = make_tracker(2)
    sample_errors(tracker, CAR, steps=30)
    frames, pixels = torch.zeros(2, dtype=torch.long), torch.tensor([[80.0, 55.0], [81.0, 55.0]])
    assert tracker.inlier_mask(frames, pixels, torch.tensor([0.01, 0.06]), 0.5).tolist() == [True, False]


def test_isolated_outliers_are_inliers() -> None:
    tracker = make_tracker(1)
    sample_errors(tracker, (80, 50, 82, 52), steps=60)
    assert is_inlier(tracker, 81.0, 51.0)


def test_old_outliers_decay() -> None:
    tracker = make_tracker(2)
    sample_errors(tracker, CAR, steps=30)
    sample_errors(tracker, (0, 0, 0, 0), steps=60)
    assert is_inlier(tracker, 80.0, 55.0)


@pytest.mark.parametrize("corner", [(0.0, 0.0), (WIDTH, 0.0), (0.0, HEIGHT), (WIDTH, HEIGHT)])
def test_image_corners_are_supported(corner: tuple[float, float]) -> None:
    tracker = make_tracker(1)
    assert is_inlier(tracker, *corner)
    for _ in range(20):
        is_inlier(tracker, *corner)
    assert not is_inlier(tracker, *corner)


def test_cell_size_scales_with_the_image_and_has_a_minimum() -> None:
    shapes = [tuple(make_tracker(1, width, height).cells.shape[1:3]) for width, height in ((4800, 3200), (480, 320))]
    assert shapes[0] == shapes[1] == (32, 48)
    assert make_tracker(1, 24, 16).cells.shape[1:3] == (4, 6)


def test_fraction_zero_has_no_outliers() -> None:
    tracker = make_tracker(1)
    for _ in range(20):
        frames, pixels = torch.zeros(50, dtype=torch.long), torch.rand(50, 2) * 100
        assert tracker.inlier_mask(frames, pixels, torch.rand(50), 0.0).all()
    assert not tracker.cells[..., 0].any()
