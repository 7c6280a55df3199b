"""Rigid motions against closed forms, the contraction by round trip, solids against slow oracles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from blocknerf.geometry import (
    compose,
    contract,
    invert,
    is_rigid,
    ray_box,
    ray_sphere,
    se3_exp,
    skew,
    transform_points,
    uncontract,
)

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


def test_contract_leaves_the_unit_cube_and_every_direction_alone():
    points = torch.rand(100, 3, generator=generator()) * 2 - 1
    assert torch.equal(contract(points), points)
    far = points * 50
    assert torch.allclose(torch.cross(contract(far), far, dim=-1), torch.zeros(100, 3), atol=1e-4)


def test_contract_is_continuous_and_smooth_across_its_boundary():
    sides = torch.tensor([[1 - 1e-6, 0.3, 0.2], [1 + 1e-6, 0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    inner, outer = contract(sides)
    assert (inner - outer).abs().max() < 1e-5
    slopes = torch.autograd.grad(contract(sides)[:, 0].sum(), sides)[0]
    assert (slopes[0] - slopes[1]).abs().max() < 1e-4


@pytest.mark.parametrize(
    "point", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (1e8, 0.0, 0.0), (-2.0, 2.0, 2.0)]
)
def test_contract_has_finite_gradients_at_awkward_points(point):
    points = torch.tensor([point], requires_grad=True)
    contract(points).sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_uncontract_is_finite_on_the_edge_of_space():
    assert uncontract(torch.tensor([[2.0, -2.0, 0.0], [2.5, 0.0, 0.0]])).isfinite().all()


def tangents(scale: float, count: int = 20) -> torch.Tensor:
    return torch.randn(count, 6, generator=generator(), dtype=torch.float64) * scale


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 0.03, 0.3, 1.0])
def test_se3_exp_is_the_matrix_exponential(scale):
    for tangent, motion in zip(tangents(scale), se3_exp(tangents(scale)), strict=True):
        matrix = np.zeros((4, 4))
        matrix[:3, :3], matrix[:3, 3] = skew(tangent[3:]).numpy(), tangent[:3].numpy()
        assert np.allclose(motion.numpy(), expm(matrix)[:3], atol=1e-12)
        assert np.allclose(motion[:, :3].numpy(), Rotation.from_rotvec(tangent[3:].numpy()).as_matrix(), atol=1e-12)


def test_se3_exp_has_exact_gradients_everywhere():
    for scale in (0.0, 1e-4, 0.09, 1.0):
        assert torch.autograd.gradcheck(se3_exp, (tangents(scale, 2).requires_grad_(),))


def test_se3_exp_in_single_precision_keeps_the_gradient_of_small_turns():
    """1 - cos cancels just above zero; the translation's gradient showed it first."""
    wide = tangents(1.5e-3)
    wide[:, :3] = 1.0
    gradients = []
    for kind in (torch.float64, torch.float32):
        leaf = wide.to(kind, copy=True).requires_grad_()
        se3_exp(leaf)[:, :, 3].square().sum().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.double())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_motions_compose_and_invert():
    first, second = se3_exp(tangents(1.0)), se3_exp(tangents(2.0))
    points = torch.randn(20, 5, 3, generator=generator(), dtype=torch.float64)
    both = transform_points(compose(first, second), points)
    assert torch.allclose(both, transform_points(first, transform_points(second, points)))
    assert torch.allclose(transform_points(invert(first), transform_points(first, points)), points)
    assert torch.allclose(compose(first, invert(first)), torch.eye(3, 4, dtype=torch.float64).expand(20, 3, 4))


def test_is_rigid_refuses_what_is_not():
    good = se3_exp(tangents(1.0, 1))[0]
    scaled, sheared, mirrored, broken, drifted = (good.clone() for _ in range(5))
    scaled[:, :3] *= 1.01
    sheared[0, :3] += 0.05 * sheared[1, :3]
    mirrored[:, 0] *= -1
    broken[1, 1] = math.nan
    drifted[2, 3] = math.inf
    found = is_rigid(torch.stack([good, scaled, sheared, mirrored, broken, drifted]))
    assert found.tolist() == [True, False, False, False, False, False]


def march(origin, direction, inside) -> tuple[float, float] | None:
    """The first and last distance inside a solid, by small steps: slow and obvious."""
    distances = np.arange(0, 8, 1e-3)
    hits = distances[inside(origin + distances[:, None] * direction)]
    return (hits[0], hits[-1]) if len(hits) else None


def rays(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    chance = generator()
    origins = torch.randn(count, 3, generator=chance, dtype=torch.float64) * 1.5
    aims = torch.randn(count, 3, generator=chance, dtype=torch.float64) * 0.8 - origins
    return origins, torch.nn.functional.normalize(aims, dim=-1)


def test_ray_box_agrees_with_marching():
    low, high = (
        torch.tensor([-1.0, -0.5, -0.2], dtype=torch.float64),
        torch.tensor([0.8, 0.7, 0.9], dtype=torch.float64),
    )
    origins, directions = rays()
    enter, leave = ray_box(origins, directions, low, high)
    found = [
        march(o, d, lambda p: ((p >= low.numpy()) & (p <= high.numpy())).all(-1))
        for o, d in zip(origins.numpy(), directions.numpy(), strict=True)
    ]
    check_against(found, enter, leave)


def test_ray_sphere_agrees_with_marching():
    center = torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)
    origins, directions = rays()
    enter, leave = ray_sphere(origins, directions, center, 0.9)
    found = [
        march(o, d, lambda p: np.linalg.norm(p - center.numpy(), axis=-1) <= 0.9)
        for o, d in zip(origins.numpy(), directions.numpy(), strict=True)
    ]
    check_against(found, enter, leave)


def check_against(found, enter, leave) -> None:
    assert any(pair is None for pair in found)
    assert sum(pair is not None for pair in found) > 10
    for pair, first, last in zip(found, enter.tolist(), leave.tolist(), strict=True):
        if pair is None:
            assert last - first < 2e-3
        else:
            assert pair == (pytest.approx(first, abs=2e-3), pytest.approx(last, abs=2e-3))


def test_ray_box_along_an_axis_and_behind():
    low, high = -torch.ones(3), torch.ones(3)
    origins = torch.tensor([[-3.0, 0.0, 0.0], [-3.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    enter, leave = ray_box(origins, torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3), low, high)
    assert (enter[0], leave[0]) == (2.0, 4.0)
    assert enter[1] > leave[1]
    assert enter[2] > leave[2]
    assert (enter[3], leave[3]) == (0.0, 1.0)


def test_ray_sphere_sees_a_small_far_sphere():
    """In single precision the textbook discriminant is lost: its terms are a million times the radius squared."""
    aim = torch.nn.functional.normalize(torch.tensor([[3.0, 4.0, 1.0]]), dim=-1)
    enter, leave = ray_sphere(-3000 * aim, aim, torch.zeros(3), 0.5)
    assert torch.allclose(torch.stack([enter, leave]), torch.tensor([[2999.5], [3000.5]]), atol=0.01)
