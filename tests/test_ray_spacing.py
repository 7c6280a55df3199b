"""The mapping between distance and normalized position."""

import pytest
import torch

from blocknerf.ray_spacing import RaySpacing


@pytest.mark.parametrize(("near", "far", "linear_until"), [(0.1, 100.0, 10.0), (0.0, 1e6, 1.0), (20.0, 500.0, 10.0)])
def test_t_to_s_inverts_s_to_t(near, far, linear_until):
    spacing = RaySpacing(near=near, far=far, linear_until=linear_until)
    s = torch.linspace(0, 0.999, 200, dtype=torch.float64)
    assert torch.allclose(spacing.t_to_s(spacing.s_to_t(s)), s, atol=1e-9)


def test_the_ends_are_near_and_far():
    spacing = RaySpacing(near=0.5, far=80.0, linear_until=20.0)
    assert torch.allclose(spacing.s_to_t(torch.tensor([0.0, 1.0])), torch.tensor([0.5, 80.0]), atol=1e-4)


def test_distances_beyond_the_ends_are_clamped():
    spacing = RaySpacing(near=0.5, far=80.0, linear_until=20.0)
    assert spacing.t_to_s(torch.tensor([0.0, 1e9])).tolist() == [0.0, 1.0]
