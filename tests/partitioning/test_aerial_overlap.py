"""Overlap of aerial views and blocks, against projection of every point into every frame."""

import numpy as np
import pytest
import torch

from blocknerf.partitioning.aerial_overlap import aerial_overlap
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import capture_geometry

BLOCKS = [Block(name=f"b{i}", origin=(30.0 * i, 10.0, 0.0), radius=25.0) for i in range(5)]


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    return np.random.default_rng(0).uniform([-60, -60, -2], [200, 60, 3], (4000, 3))


def test_aerial_cameras_have_unlimited_range(flight, with_points) -> None:
    ground = np.stack([*np.meshgrid(np.linspace(-60, 60, 61), np.linspace(-60, 60, 61)), np.zeros((61, 61))], -1)
    capture = flight(torch.tensor([[0.0, 0.0, 50.0], [20.0, 0.0, 50.0]]), **with_points(ground.reshape(-1, 3)))
    block = Block(name="a", origin=(-20.0, 0.0, 0.0), radius=20.0)
    left, right = aerial_overlap(capture_geometry(capture), [block]).toarray()[:, 0]
    assert 0.2 < left < 0.5
    assert 0 < right < left


@pytest.mark.parametrize("tilt", [0.0, 30.0, 300.0], ids=["down", "oblique", "horizon"])
def test_overlap_is_that_of_projecting_every_point(orbit, with_points, ground: np.ndarray, tilt: float) -> None:
    eyes = torch.stack([torch.linspace(0, 150, 150), torch.zeros(150), torch.full((150,), 40.0)], -1)
    capture = orbit(eyes, eyes + torch.tensor([tilt, 1.0, -40.0]), **with_points(ground))
    geometry = capture_geometry(capture)
    assert geometry.points is not None
    inside = torch.stack([block.contains(geometry.points) for block in BLOCKS], -1).float()
    expected = [inside[geometry.cameras.project(geometry.points, i)[2]].mean(0) for i in range(len(geometry))]
    assert torch.allclose(torch.from_numpy(aerial_overlap(geometry, BLOCKS).toarray()), torch.stack(expected))


def test_without_points_the_frustum_is_sampled(flight, with_points) -> None:
    eyes = torch.tensor([[-12.0, 0.0, 30.0], [12.0, 0.0, 30.0]])
    block = Block(name="a", origin=(12.0, 0.0, 0.0), radius=12.0)
    far, near = aerial_overlap(capture_geometry(flight(eyes)), [block]).toarray()[:, 0]
    assert near > far > 0.0
    # The points are in no view; their height is that of the ground.
    elsewhere = flight(eyes, **with_points(np.full((10, 3), [900.0, 0.0, 0.0])))
    assert aerial_overlap(capture_geometry(elsewhere), [block]).toarray()[:, 0].tolist() == [far, near]
