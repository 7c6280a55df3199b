"""Uniform bins and sampling from histograms."""

import torch

from blocknerf.sampling.intervals import sample_pdf, uniform_bins


def test_uniform_bins_are_sorted_and_cover_the_ray():
    edges = uniform_bins(50, 8, torch.Generator().manual_seed(0))
    assert (edges[:, 1:] > edges[:, :-1]).all()
    assert (edges[:, 0] == 0).all()
    assert (edges[:, -1] == 1).all()


def test_samples_follow_the_weights():
    edges = uniform_bins(1, 4)
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    fine = sample_pdf(edges, weights, 100)
    inside = ((fine >= 0.25) & (fine <= 0.5)).float().mean()
    assert inside > 0.95


def test_samples_match_a_slow_inverse():
    generator = torch.Generator().manual_seed(1)
    edges = uniform_bins(7, 6, generator).double()
    weights = torch.rand(7, 6, generator=generator).double()
    fine = sample_pdf(edges, weights, 9)
    padded = weights + 0.01 / 6
    for ray in range(7):
        cumulative = [0.0]
        for probability in (padded[ray] / padded[ray].sum()).tolist():
            cumulative.append(cumulative[-1] + probability)
        for j in range(10):
            u = (j + 0.5) / 10
            k = max(i for i in range(6) if cumulative[i] <= u)
            expected = edges[ray, k] + (u - cumulative[k]) / (cumulative[k + 1] - cumulative[k]) * (
                edges[ray, k + 1] - edges[ray, k]
            )
            assert abs(float(fine[ray, j] - expected)) < 1e-6


def test_zero_weights_give_uniform_samples():
    edges = uniform_bins(3, 5)
    fine = sample_pdf(edges, torch.zeros(3, 5), 9)
    assert torch.allclose(fine, (torch.arange(10) + 0.5).expand(3, 10) / 10, atol=1e-6)


def test_jittered_samples_stay_sorted_within_the_edges():
    generator = torch.Generator().manual_seed(2)
    edges = uniform_bins(64, 12, generator)
    fine = sample_pdf(edges, torch.rand(64, 12, generator=generator), 24, generator)
    assert (fine[:, 1:] >= fine[:, :-1]).all()
    assert fine.min() >= 0
    assert fine.max() <= 1
