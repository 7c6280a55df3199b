"""Shares of what a frame sees, against counts by hand."""

import numpy as np
import pytest
import torch

from blocknerf.partition.block import Block
from blocknerf.partition.capture_geometry import capture_geometry
from blocknerf.partition.view_overlap import sample_view_points, view_overlap

PATH = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])


def posts(*x: float) -> np.ndarray:
    """Points on the road's axis at the cameras' height."""
    return np.array([[value, 0.0, 2.0] for value in x])


def test_shares_are_those_of_the_points_in_view_and_in_reach(drive, with_points) -> None:
    blocks = [
        Block(name="a", origin=(0.0, 0.0, 2.0), radius=12.0),
        Block(name="b", origin=(15.0, 0.0, 2.0), radius=12.0),
    ]
    capture = drive(PATH, **with_points(posts(-5, 2, 4, 11, 22, 500)))
    shares = view_overlap(capture_geometry(capture), blocks)
    # The first camera sees 2, 4, 11 and 22 (500 is beyond reach); the second sees 11 and 22, the third 22.
    expected = torch.tensor([[3 / 4, 3 / 4], [1 / 2, 1.0], [0.0, 1.0]])
    assert torch.allclose(shares, expected)


def test_cameras_that_look_down_see_as_far_as_they_fly(flight, with_points) -> None:
    ground = np.stack([*np.meshgrid(np.linspace(-60, 60, 61), np.linspace(-60, 60, 61)), np.zeros((61, 61))], -1)
    capture = flight(torch.tensor([[0.0, 0.0, 50.0], [20.0, 0.0, 50.0]]), **with_points(ground.reshape(-1, 3)))
    (left, right) = view_overlap(capture_geometry(capture), [Block(name="a", origin=(-20.0, 0.0, 0.0), radius=20.0)])[
        :, 0
    ].tolist()
    assert 0.2 < left < 0.5
    assert 0 < right < left


def test_without_points_the_view_itself_is_shared_out(drive, flight) -> None:
    ahead, behind = (Block(name="a", origin=(x, 0.0, 0.0), radius=12.0) for x in (12.0, -12.5))
    shares = view_overlap(capture_geometry(drive(PATH)), [ahead, behind])
    assert float(shares[0, 0]) > 0.5
    assert float(shares[0, 1]) == 0.0
    down = view_overlap(capture_geometry(flight(torch.tensor([[-12.0, 0.0, 30.0], [12.0, 0.0, 30.0]]))), [ahead])
    assert float(down[1]) > float(down[0]) > 0.0


def test_a_frame_that_sees_no_point_is_judged_by_its_view(drive, with_points) -> None:
    block = [Block(name="a", origin=(10.0, 0.0, 2.0), radius=15.0)]
    blind = drive(PATH, **with_points(posts(-400, -401) - [0.0, 0.0, 2.0]))
    assert torch.equal(view_overlap(capture_geometry(blind), block), view_overlap(capture_geometry(drive(PATH)), block))


def test_view_samples_stop_at_the_ground(flight, drive) -> None:
    both = torch.tensor([0, 1])
    down = sample_view_points(
        capture_geometry(flight(torch.tensor([[0.0, 0.0, 30.0], [9.0, 0.0, 30.0]]))), both, float("inf")
    )
    assert float(down[..., 2].min()) == pytest.approx(0.0, abs=1e-3)
    ahead = sample_view_points(capture_geometry(drive(PATH)), both, 20.0)
    assert float((ahead - capture_geometry(drive(PATH)).centers[:2, None]).norm(dim=-1).max()) <= 20.001


def test_many_frames_give_the_same_as_few(drive, with_points) -> None:
    """The chunks that frames are taken in, and the points left out of each, change nothing."""
    path = torch.stack([torch.linspace(0, 300, 150), torch.zeros(150)], -1)
    points = np.random.default_rng(0).uniform([-20, -20, 0], [340, 20, 6], (3000, 3))
    capture = drive(path, **with_points(points))
    blocks = [Block(name=f"b{i}", origin=(20.0 * i, 0.0, 2.0), radius=20.0) for i in range(16)]
    few = view_overlap(capture_geometry(capture.select(range(70, 80))), blocks)
    assert torch.allclose(view_overlap(capture_geometry(capture), blocks)[70:79], few[:9])
