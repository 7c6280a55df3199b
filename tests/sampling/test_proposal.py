import pytest
import torch

from blocknerf.cameras import RayBundle
from blocknerf.kernels.intervals import place_intervals
from blocknerf.sampling.intervals import uniform_edges
from blocknerf.sampling.proposal import sample_proposals
from blocknerf.spacing import Spacing


def bundle(rays: int) -> RayBundle:
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    return RayBundle(origins=torch.zeros(rays, 3), directions=directions, radii=torch.full((rays,), 1e-3))


def shell(points, footprints):
    """A solid shell from 5 to 5.5 units around the origin."""
    distance = points.norm(dim=-1)
    return 200.0 * ((distance > 5.0) & (distance < 5.5)).float()


def test_final_samples_gather_where_the_proposal_is_dense():
    spacing = Spacing(near=0.1, far=100.0, knee=10.0)
    samples, history = sample_proposals([shell], bundle(20), spacing, (128, 32))
    assert samples.middles.shape == (20, 32)
    assert len(history) == 1
    assert ((samples.middles > 4.7) & (samples.middles < 5.6)).float().mean() > 0.8


def test_annealing_spreads_samples_until_it_is_one():
    spacing, shares = Spacing(near=0.1, far=100.0, knee=10.0), []
    for anneal in (0.0, 0.5, 1.0):
        fog = [lambda *where: shell(*where) + 0.02]
        samples, _ = sample_proposals(fog, bundle(20), spacing, (128, 32), anneal=anneal)
        shares.append(float(((samples.middles > 4.7) & (samples.middles < 5.6)).float().mean()))
    even = place_intervals(uniform_edges(20, 32), bundle(20), spacing).middles
    assert shares[0] == pytest.approx(float(((even > 4.7) & (even < 5.6)).float().mean()), abs=0.02)
    assert shares[0] + 0.1 < shares[1] < shares[2] - 0.1


def test_footprints_grow_with_distance():
    samples, _ = sample_proposals([shell], bundle(5), Spacing(near=0.1, far=100.0, knee=10.0), (16, 8))
    assert torch.allclose(samples.footprints, samples.middles * 1e-3)


def test_the_same_generator_gives_the_same_samples():
    spacing = Spacing(near=0.1, far=100.0, knee=10.0)
    first, second = (
        sample_proposals([shell], bundle(5), spacing, (16, 8), generator=torch.Generator().manual_seed(3))[0]
        for _ in range(2)
    )
    assert torch.equal(first.edges, second.edges)
