"""Outliers are ignored where they crowd, photograph by photograph, and only there."""

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.training.robust_mask import InlierTracker

WIDTH, HEIGHT = 192, 108
CAR = (60, 40, 100, 70)
SHARE = 0.1


def crowds_of(frames: int, width: int = WIDTH, height: int = HEIGHT) -> InlierTracker:
    poses = torch.eye(4)[:3].expand(frames, 3, 4)
    return InlierTracker(Cameras.pinhole(poses, focal=100.0, width=width, height=height))


def show(crowds: InlierTracker, car: tuple[int, int, int, int], *, steps: int, scale: float = 1.0) -> Tensor:
    """Random pixels of the photographs; those on a car in the first one err more. Gives how many were trusted there.

    `scale` multiplies all errors of the first photograph.
    """
    generator = torch.Generator().manual_seed(0)
    left, top, right, bottom = car
    for _ in range(steps):
        frames = torch.randint(0, len(crowds.sizes), (400,), generator=generator)
        pixels = torch.rand(400, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT])
        x, y = pixels.unbind(-1)
        on_car = (frames == 0) & (x > left) & (x < right) & (y > top) & (y < bottom)
        errors = 0.01 * torch.rand(400, generator=generator) + 0.05 * on_car
        trusted = crowds.inlier_mask(frames, pixels, torch.where(frames == 0, scale, 1.0) * errors, SHARE)
    return trusted[on_car].float().mean()


def trusts(crowds: InlierTracker, x: float, y: float, frame: int = 0) -> bool:
    """Whether an outlier there would be trusted."""
    return bool(crowds.inlier_mask(torch.tensor([frame]), torch.tensor([[float(x), float(y)]]), torch.ones(1), 1.0))


def test_the_first_outliers_are_trusted() -> None:
    crowds = crowds_of(1)
    assert all(trusts(crowds, 10.0 + 20.0 * i, 50.0) for i in range(9))


def test_a_car_is_ignored_in_the_photograph_it_is_in() -> None:
    crowds = crowds_of(2)
    assert show(crowds, CAR, steps=1) == 1.0
    assert show(crowds, CAR, steps=30) < 0.2
    assert not trusts(crowds, 80.0, 55.0)
    assert trusts(crowds, 80.0, 55.0, frame=1)
    assert trusts(crowds, 20.0, 20.0)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_errors_count_by_what_is_usual_in_their_photograph(scale: float) -> None:
    crowds = crowds_of(2)
    assert show(crowds, CAR, steps=30, scale=scale) < 0.2
    assert trusts(crowds, 20.0, 20.0)
    assert trusts(crowds, 20.0, 20.0, frame=1)


def test_what_errs_little_is_trusted_among_outliers() -> None:
    crowds = crowds_of(2)
    show(crowds, CAR, steps=30)
    frames, pixels = torch.zeros(2, dtype=torch.long), torch.tensor([[80.0, 55.0], [81.0, 55.0]])
    assert crowds.inlier_mask(frames, pixels, torch.tensor([0.01, 0.06]), 0.5).tolist() == [True, False]


def test_lone_outliers_are_detail_and_stay_trusted() -> None:
    crowds = crowds_of(1)
    show(crowds, (80, 50, 82, 52), steps=60)
    assert trusts(crowds, 81.0, 51.0)


def test_what_was_an_outlier_once_is_forgiven_when_it_is_learned() -> None:
    crowds = crowds_of(2)
    show(crowds, CAR, steps=30)
    show(crowds, (0, 0, 0, 0), steps=60)
    assert trusts(crowds, 80.0, 55.0)


@pytest.mark.parametrize("corner", [(0.0, 0.0), (WIDTH, 0.0), (0.0, HEIGHT), (WIDTH, HEIGHT)])
def test_edges_belong_to_the_picture(corner: tuple[float, float]) -> None:
    crowds = crowds_of(1)
    assert trusts(crowds, *corner)
    for _ in range(20):
        trusts(crowds, *corner)
    assert not trusts(crowds, *corner)


def test_a_cell_scales_with_the_photograph_but_never_below_a_few_pixels() -> None:
    shapes = [tuple(crowds_of(1, width, height).cells.shape[1:3]) for width, height in ((4800, 3200), (480, 320))]
    assert shapes[0] == shapes[1] == (32, 48)
    assert crowds_of(1, 24, 16).cells.shape[1:3] == (4, 6)


def test_no_ray_is_an_outlier_where_none_may_be() -> None:
    crowds = crowds_of(1)
    for _ in range(20):
        frames, pixels = torch.zeros(50, dtype=torch.long), torch.rand(50, 2) * 100
        assert crowds.inlier_mask(frames, pixels, torch.rand(50), 0.0).all()
    assert not crowds.cells[..., 0].any()
