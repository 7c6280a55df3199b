"""Volume rendering: properties of the reference, and values and gradients of the other backends."""

import pytest
import torch

from blocknerf.errors import BackendError
from blocknerf.kernels.volume_rendering import composite, weights_from_density
from tests.kernels.interpreted import triton_param

SHAPES = [("numba", rays, samples) for rays, samples in [(0, 3), (1, 1), (5, 2), (257, 24), (1000, 7)]]
SHAPES += [triton_param(rays, samples) for rays, samples in [(0, 3), (1, 1), (3, 0), (5, 2), (37, 24), (3, 96)]]


def rays(count: int, samples: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    density = 5.0 * torch.rand(count, samples, generator=generator) ** 3
    distances = torch.cumsum(torch.rand(count, samples + 1, generator=generator), -1)
    colors = torch.rand(count, samples, 3, generator=generator)
    return density, distances, colors, torch.rand(count, 3, generator=generator)


def test_weights_of_constant_density_match_the_integral():
    distances = torch.linspace(0, 3, 31, dtype=torch.float64)[None]
    density = torch.full((1, 30), 0.7, dtype=torch.float64)
    weights, transmittance = weights_from_density(density, distances)
    assert torch.allclose(weights.sum(-1), 1 - torch.exp(torch.tensor(-2.1, dtype=torch.float64)))
    assert torch.allclose(transmittance[0], torch.exp(-0.7 * distances[0, :-1]))


@pytest.mark.parametrize("backend", ["numba", "torch", triton_param()])
def test_gradients_are_finite_at_zero_and_huge_density(backend: str):
    density = torch.tensor([[0.0, 1e30, 0.0]], requires_grad=True)
    weights, _ = weights_from_density(density, torch.tensor([[0.0, 1.0, 2.0, 3.0]]), backend)
    weights.sum().backward()
    assert torch.isfinite(density.grad).all()


@pytest.mark.parametrize("backend", ["numba", "torch", triton_param()])
def test_nan_stays_nan(backend: str):
    weights, _ = weights_from_density(torch.tensor([[1.0, float("nan")]]), torch.tensor([[0.0, 1.0, 2.0]]), backend)
    assert weights[0, 1].isnan()
    color = composite(weights, torch.ones(1, 2, 3), torch.ones(1, 3), backend)
    assert color.isnan().all()


def test_reference_gradients():
    density, distances, colors, sky = (tensor.double() for tensor in rays(3, 4))

    def color(density: torch.Tensor, colors: torch.Tensor, sky: torch.Tensor) -> torch.Tensor:
        return composite(weights_from_density(density, distances, "torch")[0], colors, sky, "torch")

    torch.autograd.gradcheck(color, (density.requires_grad_(), colors.requires_grad_(), sky.requires_grad_()))


@pytest.mark.parametrize(("fast", "count", "samples"), SHAPES)
def test_other_backends_match_the_reference_in_values_and_gradients(fast: str, count: int, samples: int):
    results = []
    for backend in (fast, "torch"):
        density, distances, colors, sky = rays(count, samples)
        leaves = [density.requires_grad_(), colors.requires_grad_(), sky.requires_grad_()]
        weights, transmittance = weights_from_density(density, distances, backend)
        color = composite(weights, colors, sky, backend)
        loss = (color.square().sum(-1) + weights.square().sum(-1)).sum()
        results.append((weights, transmittance, color, *torch.autograd.grad(loss, leaves)))
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("backend", ["numba", "torch", triton_param()])
def test_transmittance_has_no_gradient(backend: str):
    density, distances, _, _ = rays(4, 5)
    _, transmittance = weights_from_density(density.requires_grad_(), distances, backend)
    assert not transmittance.requires_grad


@pytest.mark.parametrize("backend", ["numba", triton_param()])
def test_other_backends_reject_double_precision(backend: str):
    density, distances, _, _ = rays(2, 3)
    with pytest.raises(BackendError, match="float32 only"):
        weights_from_density(density.double(), distances.double(), backend)


@pytest.mark.parametrize("backend", [triton_param()])
def test_thin_samples_and_samples_behind_thick_ones_are_accurate(backend: str):
    density = torch.logspace(-9, 1, 100)[:, None]
    weights, _ = weights_from_density(density, torch.tensor([0.0, 1.0]).expand(100, 2), backend)
    torch.testing.assert_close(weights.double(), -torch.expm1(-density.double()), rtol=1e-6, atol=0)
    weights, _ = weights_from_density(torch.tensor([[0.5, 1e9, 1.0]]), torch.tensor([[0.0, 1.0, 2.0, 3.0]]), backend)
    torch.testing.assert_close(weights, torch.tensor([[0.393469, 0.606531, 0.0]]))
