"""Overlap of street views and blocks, against hand counts and projection of every point into every frame."""

import numpy as np
import pytest
import torch

from blocknerf.capture import Capture
from blocknerf.partitioning import view_overlap
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partitioning.view_overlap import VISIBILITY_RANGE, StreetViews, sample_view_points

PATH = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])


def overlaps(capture: Capture, block: Block) -> torch.Tensor:
    return StreetViews(capture_geometry(capture)).overlap(block, torch.arange(len(capture)))


def projected_overlaps(geometry: CaptureGeometry, block: Block) -> torch.Tensor:
    """Return the overlaps from all points, projected into each frame."""
    fractions = []
    for i in range(len(geometry)):
        _, _, visible = geometry.cameras.project(geometry.points, i)
        distances = (geometry.points - geometry.centers[i]).norm(dim=-1)
        seen = geometry.points[visible & (distances <= VISIBILITY_RANGE * block.radius)]
        fractions.append(block.contains(seen).float().mean())
    return torch.stack(fractions)


def road_points(*x: float) -> np.ndarray:
    """Return points on the road's axis at the cameras' height."""
    return np.array([[value, 0.0, 2.0] for value in x])


@pytest.mark.parametrize(("origin", "expected"), [(0.0, [3 / 4, 1 / 2, 0.0]), (15.0, [3 / 4, 1.0, 1.0])])
def test_overlap_counts_points_in_view_and_range(drive, with_points, origin: float, expected: list[float]) -> None:
    block = Block(name="a", origin=(origin, 0.0, 2.0), radius=12.0)
    capture = drive(PATH, **with_points(road_points(-5, 2, 4, 11, 22, 500)))
    # The first camera sees 2, 4, 11 and 22 (500 is out of range); the second sees 11 and 22, the third 22.
    assert torch.allclose(overlaps(capture, block), torch.tensor(expected))


@pytest.mark.parametrize("pairs", [1, 4000, 1 << 20])
def test_overlap_is_that_of_projecting_every_point(drive, with_points, monkeypatch, pairs: int) -> None:
    """Whatever the number of pairs that are computed together."""
    monkeypatch.setattr("blocknerf.view_frusta.PAIRS", pairs)
    path = torch.stack([torch.linspace(0, 300, 60), 20 * torch.linspace(0, 6, 60).sin()], -1)
    points = np.random.default_rng(0).uniform([-20, -40, 0], [340, 40, 6], (3000, 3))
    capture = drive(path, **with_points(points))
    geometry = capture_geometry(capture)
    for x in (0.0, 150.0):
        block = Block(name="a", origin=(x, 0.0, 2.0), radius=60.0)
        seen = projected_overlaps(geometry, block)
        views = StreetViews(geometry)
        frames = torch.tensor([30, 3, 12])
        assert torch.equal(views.overlap(block, frames), seen[frames])


def test_points_are_thinned_around_the_block_only(drive, with_points, monkeypatch) -> None:
    """Points of other parts of the city do not reduce those of a block."""
    monkeypatch.setattr(view_overlap, "POINTS_IN_REACH", 600)
    generator = np.random.default_rng(0)
    near, far = generator.uniform([-30, -9, 0], [60, 9, 4], (500, 3)), generator.uniform(900, 990, (5000, 3))
    block = Block(name="a", origin=(20.0, 0.0, 2.0), radius=12.0)
    alone, in_city = (drive(PATH, **with_points(points)) for points in (near, np.concatenate([far, near])))
    assert torch.equal(overlaps(in_city, block), overlaps(alone, block))


def test_many_points_are_thinned_evenly(drive, with_points, monkeypatch) -> None:
    points = np.random.default_rng(0).uniform([-30, -9, 0], [60, 9, 4], (20_000, 3))
    capture, block = drive(PATH, **with_points(points)), Block(name="a", origin=(10.0, 0.0, 2.0), radius=15.0)
    thinned = overlaps(capture, block)
    monkeypatch.setattr(view_overlap, "POINTS_IN_REACH", 20_000)
    assert torch.allclose(thinned, overlaps(capture, block), atol=0.05)


def test_without_points_the_frustum_is_sampled(drive) -> None:
    ahead, behind = (Block(name="a", origin=(x, 0.0, 0.0), radius=12.0) for x in (12.0, -12.5))
    assert float(overlaps(drive(PATH), ahead)[0]) > 0.5
    assert float(overlaps(drive(PATH), behind)[0]) == 0.0


def test_frame_without_visible_points_uses_frustum_samples(drive, with_points) -> None:
    block = Block(name="a", origin=(10.0, 0.0, 2.0), radius=15.0)
    without_visible_points = drive(PATH, **with_points(road_points(-400, -401) - [0.0, 0.0, 2.0]))
    assert torch.equal(overlaps(without_visible_points, block), overlaps(drive(PATH), block))


def test_view_samples_stop_at_the_ground(flight, drive) -> None:
    frames = torch.tensor([0, 1])
    samples = sample_view_points(
        capture_geometry(flight(torch.tensor([[0.0, 0.0, 30.0], [9.0, 0.0, 30.0]]))), frames, float("inf")
    )
    assert float(samples[..., 2].min()) == pytest.approx(0.0, abs=1e-3)
    ahead = sample_view_points(capture_geometry(drive(PATH)), frames, 20.0)
    assert float((ahead - capture_geometry(drive(PATH)).centers[:2, None]).norm(dim=-1).max()) <= 20.001
