"""Rigid transforms, contraction and ray spacing: inverses, limits and gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from blocknerf.geometry import RaySpacing, compose, contract, invert, is_rigid, se3_exp, skew, uncontract

coordinates = st.floats(-1e4, 1e4, allow_subnormal=False)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@given(st.tuples(coordinates, coordinates, coordinates))
@settings(max_examples=200, deadline=None)
def test_contract_is_inverted_and_stays_in_its_cube(point):
    points = torch.tensor([point], dtype=torch.float64)
    inside = contract(points)
    assert inside.abs().max() < 2
    assert torch.allclose(uncontract(inside), points, rtol=1e-6, atol=1e-9)


def test_contract_keeps_the_unit_cube_and_all_directions():
    points = torch.rand(100, 3, generator=generator()) * 2 - 1
    assert torch.equal(contract(points), points)
    far = points * 50
    assert torch.allclose(torch.cross(contract(far), far, dim=-1), torch.zeros(100, 3), atol=1e-4)


def test_contract_is_continuous_and_smooth_across_its_boundary():
    sides = torch.tensor([[1 - 1e-6, 0.3, 0.2], [1 + 1e-6, 0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    inner, outer = contract(sides)
    assert (inner - outer).abs().max() < 1e-5
    gradients = torch.autograd.grad(contract(sides)[:, 0].sum(), sides)[0]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4


@pytest.mark.parametrize(
    "point", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (1e8, 0.0, 0.0), (-2.0, 2.0, 2.0)]
)
def test_contract_has_finite_gradients_at_edge_cases(point):
    points = torch.tensor([point], requires_grad=True)
    contract(points).sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_uncontract_is_finite_at_infinity():
    assert uncontract(torch.tensor([[2.0, -2.0, 0.0], [2.5, 0.0, 0.0]])).isfinite().all()


def tangents(scale: float, count: int = 20) -> torch.Tensor:
    return torch.randn(count, 6, generator=generator(), dtype=torch.float64) * scale


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 0.03, 0.3, 1.0])
def test_se3_exp_is_the_matrix_exponential(scale):
    scaled = tangents(scale)
    scaled[:, :3] /= scale
    for tangent, motion in zip(scaled, se3_exp(scaled), strict=True):
        matrix = np.zeros((4, 4))
        matrix[:3, :3], matrix[:3, 3] = skew(tangent[3:]).numpy(), tangent[:3].numpy()
        assert np.allclose(motion.numpy(), expm(matrix)[:3], rtol=0.0, atol=1e-13)
        assert np.allclose(motion[:, :3].numpy(), Rotation.from_rotvec(tangent[3:].numpy()).as_matrix(), atol=1e-12)


def test_se3_exp_has_exact_gradients_everywhere():
    for scale in (0.0, 1e-4, 0.09, 1.0):
        assert torch.autograd.gradcheck(se3_exp, (tangents(scale, 2).requires_grad_(),))


def test_se3_exp_keeps_gradients_of_small_rotations_in_single_precision():
    """Cancellation in 1 - cos near zero would first affect the gradient of the translation."""
    scaled = tangents(1.5e-3)
    scaled[:, :3] = 1.0
    gradients = []
    for dtype in (torch.float64, torch.float32):
        leaf = scaled.to(dtype, copy=True).requires_grad_()
        se3_exp(leaf)[:, :, 3].square().sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.double())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_transforms_compose_and_invert_like_matrices():
    first, second = se3_exp(tangents(1.0)), se3_exp(tangents(2.0))
    bottom = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).expand(20, 1, 4)
    first4, second4 = (torch.cat([motion, bottom], 1) for motion in (first, second))
    assert torch.allclose(compose(first, second), (first4 @ second4)[:, :3])
    assert torch.allclose(invert(first), torch.linalg.inv(first4)[:, :3])


def test_is_rigid_detects_other_transforms():
    rigid = se3_exp(tangents(1.0, 1))[0]
    scaled, sheared, mirrored, nan, infinite = (rigid.clone() for _ in range(5))
    scaled[:, :3] *= 1.01
    sheared[0, :3] += 0.05 * sheared[1, :3]
    mirrored[:, 0] *= -1
    nan[1, 1] = math.nan
    infinite[2, 3] = math.inf
    result = is_rigid(torch.stack([rigid, scaled, sheared, mirrored, nan, infinite]))
    assert result.tolist() == [True, False, False, False, False, False]


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
