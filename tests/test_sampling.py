"""Bin edges and proposal sampling."""

import pytest
import torch

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.sampling import sample_pdf, sample_proposals, uniform_bins


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


def make_rays(rays: int) -> RayBundle:
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    return RayBundle(origins=torch.zeros(rays, 3), directions=directions, pixel_radii=torch.full((rays,), 1e-3))


def shell(points, footprints):
    """Density of a solid shell at a distance of 5 to 5.5 units from the origin."""
    distance = points.norm(dim=-1)
    return 200.0 * ((distance > 5.0) & (distance < 5.5)).float()


def test_final_samples_concentrate_where_the_proposal_is_dense():
    spacing = RaySpacing(near=0.1, far=100.0, linear_until=10.0)
    samples, histograms = sample_proposals([shell], make_rays(20), spacing, (128, 32))
    assert samples.t_mids.shape == (20, 32)
    assert len(histograms) == 1
    assert ((samples.t_mids > 4.7) & (samples.t_mids < 5.6)).float().mean() > 0.8


def test_annealing_moves_samples_from_uniform_to_the_proposal():
    spacing, fractions = RaySpacing(near=0.1, far=100.0, linear_until=10.0), []
    for anneal in (0.0, 0.5, 1.0):
        fog = [lambda *inputs: shell(*inputs) + 0.02]
        samples, _ = sample_proposals(fog, make_rays(20), spacing, (128, 32), anneal=anneal)
        fractions.append(float(((samples.t_mids > 4.7) & (samples.t_mids < 5.6)).float().mean()))
    uniform = make_ray_samples(uniform_bins(20, 32), make_rays(20), spacing).t_mids
    assert fractions[0] == pytest.approx(float(((uniform > 4.7) & (uniform < 5.6)).float().mean()), abs=0.02)
    assert fractions[0] + 0.1 < fractions[1] < fractions[2] - 0.1


def test_footprints_grow_with_distance():
    samples, _ = sample_proposals([shell], make_rays(5), RaySpacing(near=0.1, far=100.0, linear_until=10.0), (16, 8))
    assert torch.allclose(samples.radii, samples.t_mids * 1e-3)


def test_equal_seeds_give_equal_samples():
    spacing = RaySpacing(near=0.1, far=100.0, linear_until=10.0)
    first, second = (
        sample_proposals([shell], make_rays(5), spacing, (16, 8), generator=torch.Generator().manual_seed(3))[0]
        for _ in range(2)
    )
    assert torch.equal(first.s_edges, second.s_edges)
