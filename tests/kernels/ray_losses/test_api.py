"""Ray losses: values and gradients of the other backends against the reference."""

import pytest
import torch

from blocknerf.kernels.ray_losses import distortion, interlevel
from tests.kernels.interpreted import triton_param

SHAPES = [("numba", *shape) for shape in [(0, 3, 2), (1, 1, 1), (5, 24, 48), (300, 7, 5)]]
SHAPES += [triton_param(*shape) for shape in [(0, 3, 2), (1, 1, 1), (5, 24, 48), (9, 7, 5), (2, 48, 96)]]


def histogram(rays: int, bins: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rays * bins)
    inner = torch.rand(rays, bins - 1, generator=generator).sort(-1).values
    edges = torch.cat([torch.zeros(rays, 1), inner, torch.ones(rays, 1)], -1)
    weights = torch.rand(rays, bins, generator=generator) ** 3
    return edges.to(dtype), (weights / weights.sum(-1, keepdim=True)).to(dtype)


def run_interlevel(backend: str, dtype: torch.dtype, rays: int, fine: int, coarse: int) -> tuple:
    fine_edges, fine_weights = histogram(rays, fine, dtype)
    edges, weights = histogram(rays, coarse, dtype)
    loss = interlevel(fine_edges, fine_weights, edges, weights.requires_grad_(), backend)
    return loss.detach(), torch.autograd.grad(3.0 * loss, weights)[0]


def run_distortion(backend: str, dtype: torch.dtype, rays: int, bins: int, _: int) -> tuple:
    edges, weights = histogram(rays, bins, dtype)
    loss = distortion(edges, weights.requires_grad_(), backend)
    return loss.detach(), torch.autograd.grad(3.0 * loss, weights)[0]


@pytest.mark.parametrize(("backend", "rays", "fine", "coarse"), SHAPES)
@pytest.mark.parametrize("run", [run_interlevel, run_distortion])
def test_other_backends_are_as_accurate_as_the_reference(run, backend: str, rays: int, fine: int, coarse: int):
    exact = run("torch", torch.float64, rays, fine, coarse)
    baselines = run("torch", torch.float32, rays, fine, coarse)
    for value, baseline, reference in zip(
        run(backend, torch.float32, rays, fine, coarse), baselines, exact, strict=True
    ):
        assert value.shape == reference.shape
        if rays:
            # Ratios of weights near zero are ill-conditioned: the float32 reference's rounding sets the tolerance.
            assert (value - reference).abs().max() <= 3.0 * (baseline - reference).abs().max() + 1e-6
            torch.testing.assert_close(value, baseline, rtol=1e-3, atol=1e-4)


def test_reference_gradients():
    fine_edges, fine_weights = histogram(3, 6, torch.float64)
    edges, weights = histogram(3, 4, torch.float64)
    weights.requires_grad_()
    torch.autograd.gradcheck(lambda w: interlevel(fine_edges, fine_weights, edges, w, "torch"), weights)
    torch.autograd.gradcheck(lambda w: distortion(edges, w, "torch"), weights)


@pytest.mark.parametrize("backend", ["numba", "torch", triton_param()])
def test_nan_stays_nan(backend: str):
    edges, weights = histogram(2, 5)
    broken = weights.clone()
    broken[0, 2] = float("nan")
    assert interlevel(edges, broken, edges, weights, backend).isnan()
    assert distortion(edges, broken, backend).isnan()
