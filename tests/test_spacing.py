import pytest
import torch

from blocknerf.spacing import Spacing


@pytest.mark.parametrize(("near", "far", "knee"), [(0.1, 100.0, 10.0), (0.0, 1e6, 1.0), (20.0, 500.0, 10.0)])
def test_position_inverts_distance(near, far, knee):
    spacing = Spacing(near=near, far=far, knee=knee)
    s = torch.linspace(0, 0.999, 200, dtype=torch.float64)
    assert torch.allclose(spacing.position(spacing.distance(s)), s, atol=1e-9)


def test_ends_are_near_and_far():
    spacing = Spacing(near=0.5, far=80.0, knee=20.0)
    assert torch.allclose(spacing.distance(torch.tensor([0.0, 1.0])), torch.tensor([0.5, 80.0]), atol=1e-4)


def test_distances_beyond_the_ends_are_clamped():
    spacing = Spacing(near=0.5, far=80.0, knee=20.0)
    assert spacing.position(torch.tensor([0.0, 1e9])).tolist() == [0.0, 1.0]
