"""Quadrature: what the reference is, and the native backend against it, values and gradients."""

import pytest
import torch

from blocknerf.errors import BackendError
from blocknerf.kernels.quadrature import composite, weights_from_density

SHAPES = [(0, 3), (1, 1), (5, 2), (257, 24), (1000, 7)]


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


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_gradients_are_finite_at_zero_and_huge_density(backend: str):
    density = torch.tensor([[0.0, 1e30, 0.0]], requires_grad=True)
    weights, _ = weights_from_density(density, torch.tensor([[0.0, 1.0, 2.0, 3.0]]), backend)
    weights.sum().backward()
    assert torch.isfinite(density.grad).all()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_not_a_number_stays_one(backend: str):
    weights, _ = weights_from_density(torch.tensor([[1.0, float("nan")]]), torch.tensor([[0.0, 1.0, 2.0]]), backend)
    assert weights[0, 1].isnan()
    color = composite(weights, torch.ones(1, 2, 3), torch.ones(1, 3), backend)
    assert color.isnan().all()


def test_reference_gradients():
    density, distances, colors, sky = (tensor.double() for tensor in rays(3, 4))

    def color(density: torch.Tensor, colors: torch.Tensor, sky: torch.Tensor) -> torch.Tensor:
        return composite(weights_from_density(density, distances, "reference")[0], colors, sky, "reference")

    torch.autograd.gradcheck(color, (density.requires_grad_(), colors.requires_grad_(), sky.requires_grad_()))


@pytest.mark.parametrize(("count", "samples"), SHAPES)
def test_native_matches_reference_in_values_and_gradients(count: int, samples: int):
    results = []
    for backend in ("native", "reference"):
        density, distances, colors, sky = rays(count, samples)
        leaves = [density.requires_grad_(), colors.requires_grad_(), sky.requires_grad_()]
        weights, transmittance = weights_from_density(density, distances, backend)
        color = composite(weights, colors, sky, backend)
        loss = (color.square().sum(-1) + weights.square().sum(-1)).sum()
        results.append((weights, transmittance, color, *torch.autograd.grad(loss, leaves)))
    for value, truth in zip(*results, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_transmittance_carries_no_gradient(backend: str):
    density, distances, _, _ = rays(4, 5)
    _, transmittance = weights_from_density(density.requires_grad_(), distances, backend)
    assert not transmittance.requires_grad


def test_native_refuses_double_precision():
    density, distances, _, _ = rays(2, 3)
    with pytest.raises(BackendError, match="float32 only"):
        weights_from_density(density.double(), distances.double(), "native")
