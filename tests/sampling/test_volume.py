import torch

from blocknerf.sampling.volume import weights_from_density


def test_weights_of_constant_density_match_the_integral():
    distances = torch.linspace(0, 3, 31, dtype=torch.float64)[None]
    density = torch.full((1, 30), 0.7, dtype=torch.float64)
    weights, transmittance = weights_from_density(density, distances)
    assert torch.allclose(weights.sum(-1), 1 - torch.exp(torch.tensor(-2.1, dtype=torch.float64)))
    assert torch.allclose(transmittance[0], torch.exp(-0.7 * distances[0, :-1]))


def test_weights_match_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    density = torch.rand(4, 9, generator=generator).double() * 5
    distances = torch.cumsum(torch.rand(4, 10, generator=generator).double(), -1)
    weights, _ = weights_from_density(density, distances)
    for ray in range(4):
        left = 1.0
        for i in range(9):
            alpha = 1 - float(torch.exp(-density[ray, i] * (distances[ray, i + 1] - distances[ray, i])))
            assert abs(float(weights[ray, i]) - left * alpha) < 1e-12
            left *= 1 - alpha


def test_gradients_are_finite_at_zero_and_huge_density():
    density = torch.tensor([[0.0, 1e30, 0.0]], requires_grad=True)
    weights, _ = weights_from_density(density, torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
    weights.sum().backward()
    assert torch.isfinite(density.grad).all()
