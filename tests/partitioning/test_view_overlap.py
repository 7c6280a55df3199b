"""Overlap of views and blocks, against hand counts."""

import numpy as np
import pytest
import torch

from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import capture_geometry
from blocknerf.partitioning.view_overlap import sample_view_points, view_overlap

PATH = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])


def road_points(*x: float) -> np.ndarray:
    """Return points on the road's axis at the cameras' height."""
    return np.array([[value, 0.0, 2.0] for value in x])


def test_overlap_counts_points_in_view_and_range(drive, with_points) -> None:
    blocks = [
        Block(name="a", origin=(0.0, 0.0, 2.0), radius=12.0),
        Block(name="b", origin=(15.0, 0.0, 2.0), radius=12.0),
    ]
    capture = drive(PATH, **with_points(road_points(-5, 2, 4, 11, 22, 500)))
    overlaps = view_overlap(capture_geometry(capture), blocks)
    # The first camera sees 2, 4, 11 and 22 (500 is out of range); the second sees 11 and 22, the third 22.
    expected = torch.tensor([[3 / 4, 3 / 4], [1 / 2, 1.0], [0.0, 1.0]])
    assert torch.allclose(overlaps, expected)


def test_aerial_cameras_have_unlimited_range(flight, with_points) -> None:
    ground = np.stack([*np.meshgrid(np.linspace(-60, 60, 61), np.linspace(-60, 60, 61)), np.zeros((61, 61))], -1)
    capture = flight(torch.tensor([[0.0, 0.0, 50.0], [20.0, 0.0, 50.0]]), **with_points(ground.reshape(-1, 3)))
    (left, right) = view_overlap(capture_geometry(capture), [Block(name="a", origin=(-20.0, 0.0, 0.0), radius=20.0)])[
        :, 0
    ].tolist()
    assert 0.2 < left < 0.5
    assert 0 < right < left


def test_without_points_the_frustum_is_sampled(drive, flight) -> None:
    ahead, behind = (Block(name="a", origin=(x, 0.0, 0.0), radius=12.0) for x in (12.0, -12.5))
    overlaps = view_overlap(capture_geometry(drive(PATH)), [ahead, behind])
    assert float(overlaps[0, 0]) > 0.5
    assert float(overlaps[0, 1]) == 0.0
    aerial_overlap = view_overlap(
        capture_geometry(flight(torch.tensor([[-12.0, 0.0, 30.0], [12.0, 0.0, 30.0]]))), [ahead]
    )
    assert float(aerial_overlap[1]) > float(aerial_overlap[0]) > 0.0


def test_frame_without_visible_points_uses_frustum_samples(drive, with_points) -> None:
    block = [Block(name="a", origin=(10.0, 0.0, 2.0), radius=15.0)]
    without_visible_points = drive(PATH, **with_points(road_points(-400, -401) - [0.0, 0.0, 2.0]))
    assert torch.equal(
        view_overlap(capture_geometry(without_visible_points), block),
        view_overlap(capture_geometry(drive(PATH)), block),
    )


def test_view_samples_stop_at_the_ground(flight, drive) -> None:
    frames = torch.tensor([0, 1])
    samples = sample_view_points(
        capture_geometry(flight(torch.tensor([[0.0, 0.0, 30.0], [9.0, 0.0, 30.0]]))), frames, float("inf")
    )
    assert float(samples[..., 2].min()) == pytest.approx(0.0, abs=1e-3)
    ahead = sample_view_points(capture_geometry(drive(PATH)), frames, 20.0)
    assert float((ahead - capture_geometry(drive(PATH)).centers[:2, None]).norm(dim=-1).max()) <= 20.001


def test_chunking_does_not_change_the_result(drive, with_points) -> None:
    """Frames are processed in chunks, each with the points within its range only."""
    path = torch.stack([torch.linspace(0, 300, 150), torch.zeros(150)], -1)
    points = np.random.default_rng(0).uniform([-20, -20, 0], [340, 20, 6], (3000, 3))
    capture = drive(path, **with_points(points))
    blocks = [Block(name=f"b{i}", origin=(20.0 * i, 0.0, 2.0), radius=20.0) for i in range(16)]
    selected = view_overlap(capture_geometry(capture.select(range(70, 80))), blocks)
    assert torch.allclose(view_overlap(capture_geometry(capture), blocks)[70:79], selected[:9])
