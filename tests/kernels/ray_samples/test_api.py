"""Ray samples: values computed by hand, and the other backends against the reference."""

import pytest
import torch

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.ray_samples import make_ray_samples
from tests.kernels.interpreted import triton_param

SPACING = RaySpacing(near=0.5, far=2000.0, linear_until=17.0)


def rays(count: int) -> RayBundle:
    generator = torch.Generator().manual_seed(count)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    origins = torch.randn(count, 3, generator=generator)
    return RayBundle(origins=origins, directions=directions, pixel_radii=torch.rand(count, generator=generator))


@pytest.mark.parametrize(
    ("backend", "count", "bins"),
    [
        *(triton_param(*sizes) for sizes in ((0, 4), (1, 1), (3, 48), (50, 7), (130, 2))),
        *(("numba", *sizes) for sizes in ((0, 4), (1, 1), (3, 48), (700, 7), (5, 0))),
    ],
)
def test_other_backends_match_the_reference(backend: str, count: int, bins: int) -> None:
    edges = torch.rand(count, bins + 1, generator=torch.Generator().manual_seed(1)).sort(-1).values
    for value, expected in zip(
        make_ray_samples(edges, rays(count), SPACING, backend),
        make_ray_samples(edges, rays(count), SPACING, "torch"),
        strict=True,
    ):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
def test_values_computed_by_hand(backend: str) -> None:
    spacing = RaySpacing(near=0.0, far=1e9, linear_until=10.0)
    ray = RayBundle(
        origins=torch.tensor([[1.0, 2.0, 3.0]]),
        directions=torch.tensor([[0.0, 0.0, 2.0]]),
        pixel_radii=torch.tensor([0.5]),
    )
    samples = make_ray_samples(torch.tensor([[0.25, 0.5, 0.75]]), ray, spacing, backend)
    torch.testing.assert_close(samples.t_edges, torch.tensor([[5.0, 10.0, 20.0]]))
    torch.testing.assert_close(samples.t_mids, torch.tensor([[7.5, 15.0]]))
    torch.testing.assert_close(samples.points, torch.tensor([[[1.0, 2.0, 18.0], [1.0, 2.0, 33.0]]]))
    torch.testing.assert_close(samples.radii, torch.tensor([[3.75, 7.5]]))


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
def test_nan_stays_nan(backend: str) -> None:
    samples = make_ray_samples(torch.tensor([[0.1, float("nan"), 0.9]]), rays(1), SPACING, backend)
    assert samples.t_edges[0].isnan().tolist() == [False, True, False]
    assert samples.points.isnan().all()


def test_rays_can_have_a_gradient() -> None:
    differentiable = rays(3).requires_grad_copy()
    make_ray_samples(torch.rand(3, 5).sort(-1).values, differentiable, SPACING).points.sum().backward()
    torch.testing.assert_close(differentiable.origins.grad, torch.full((3, 3), 4.0))
