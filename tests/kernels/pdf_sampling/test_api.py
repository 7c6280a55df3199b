"""Inverse transform sampling: the other backends against the reference."""

import pytest
import torch

from blocknerf.kernels.pdf_sampling import sample_pdf
from tests.kernels.interpreted import triton_param

SHAPES = [("numba", *shape) for shape in [(0, 4, 3), (1, 1, 1), (7, 48, 24), (600, 5, 9)]]
SHAPES += [triton_param(*shape) for shape in [(0, 4, 3), (1, 1, 1), (7, 48, 24), (9, 5, 9), (2, 96, 96)]]


@pytest.mark.parametrize(("backend", "rays", "bins", "num_fine"), SHAPES)
@pytest.mark.parametrize("padding", [0.01, 0.0])
def test_other_backends_match_the_reference(backend: str, rays: int, bins: int, num_fine: int, padding: float):
    generator = torch.Generator().manual_seed(rays)
    edges = torch.cumsum(torch.rand(rays, bins + 1, generator=generator), -1)
    weights = torch.rand(rays, bins, generator=generator) ** 6 + 1e-3
    jitter = torch.rand(rays, generator=generator)
    fast, reference = (sample_pdf(edges, weights, jitter, num_fine, padding, name) for name in (backend, "torch"))
    # Where weights are small, rounding of a quantile moves an edge far, but must keep edges sorted.
    torch.testing.assert_close(fast, reference, rtol=1e-3, atol=1e-3)
    assert (fast.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("backend", ["numba", triton_param()])
def test_zero_weights_and_weight_in_a_single_bin(backend: str):
    edges = torch.linspace(0, 1, 5).expand(2, 5).contiguous()
    weights = torch.tensor([[0.0] * 4, [0.0, 0.0, 1.0, 0.0]])
    samples = sample_pdf(edges, weights, torch.full((2,), 0.5), 9, 0.01, backend)
    torch.testing.assert_close(samples[0], (torch.arange(10) + 0.5) / 10, rtol=0, atol=1e-6)
    assert ((samples[1] >= 0.5) & (samples[1] <= 0.75)).all()


@pytest.mark.parametrize("backend", ["torch", triton_param()])
def test_nan_stays_nan(backend: str):
    weights = torch.ones(2, 5)
    weights[0, 2] = float("nan")
    samples = sample_pdf(torch.linspace(0, 1, 6).expand(2, 6), weights, torch.full((2,), 0.5), 4, 0.01, backend)
    assert samples[0].isnan().all()
    assert samples[1].isfinite().all()
