"""Inverse transform sampling: the native backend against the reference."""

import pytest
import torch

from blocknerf.kernels.resampling import resample


@pytest.mark.parametrize(("rays", "bins", "finer"), [(0, 4, 3), (1, 1, 1), (7, 48, 24), (600, 5, 9)])
@pytest.mark.parametrize("padding", [0.01, 0.0])
def test_native_matches_reference(rays: int, bins: int, finer: int, padding: float):
    generator = torch.Generator().manual_seed(rays)
    edges = torch.cumsum(torch.rand(rays, bins + 1, generator=generator), -1)
    weights = torch.rand(rays, bins, generator=generator) ** 6 + 1e-3
    jitter = torch.rand(rays, generator=generator)
    native, reference = (
        resample(edges, weights, jitter, finer, padding, backend) for backend in ("native", "reference")
    )
    # Where weight is thin a rounding of the share moves an edge far; it may not move it out of order.
    torch.testing.assert_close(native, reference, rtol=1e-3, atol=1e-3)
    assert (native.diff(dim=-1) >= 0).all()


def test_weights_all_zero_and_all_in_one_bin():
    edges = torch.linspace(0, 1, 5).expand(2, 5).contiguous()
    weights = torch.tensor([[0.0] * 4, [0.0, 0.0, 1.0, 0.0]])
    fine = resample(edges, weights, torch.full((2,), 0.5), 9, 0.01, "native")
    torch.testing.assert_close(fine[0], (torch.arange(10) + 0.5) / 10, rtol=0, atol=1e-6)
    assert ((fine[1] >= 0.5) & (fine[1] <= 0.75)).all()
