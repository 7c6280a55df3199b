"""Proposal sampling: where the final samples are placed."""

import pytest
import torch

from blocknerf.cameras import RayBundle
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.ray_spacing import RaySpacing
from blocknerf.sampling.intervals import uniform_bins
from blocknerf.sampling.proposal import sample_proposals


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
