"""Ray encoding: the triton backend against the reference, and gradients."""

import pytest
import torch

from blocknerf.kernels.ray_encoding import encode_directions, encode_ray_inputs
from tests.kernels.interpreted import needs_triton, triton_param


def rays(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return directions, torch.randn(count, 5, generator=generator)


@pytest.mark.parametrize(("backend", "count"), [triton_param(0), triton_param(1), triton_param(7), triton_param(300)])
def test_triton_matches_the_reference(backend: str, count: int) -> None:
    directions, code = rays(count)
    weights = torch.randn(count, 21, generator=torch.Generator().manual_seed(1))
    results = []
    for name in (backend, "torch"):
        leaf = code.clone().requires_grad_()
        encoded = encode_ray_inputs(directions, leaf, name)
        results.append(
            (
                encoded.detach(),
                *torch.autograd.grad((encoded * weights).sum(), leaf),
                encode_directions(directions, name),
            )
        )
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=4e-6)


@needs_triton
def test_one_code_can_be_expanded_to_all_rays() -> None:
    directions, code = rays(6)
    shared = code[:1].expand(6, -1)
    torch.testing.assert_close(
        encode_ray_inputs(directions, shared, "triton"),
        encode_ray_inputs(directions, shared.contiguous(), "torch"),
    )


@needs_triton
def test_nan_stays_nan() -> None:
    directions, code = rays(2)
    code[1, 0] = float("nan")
    encoded = encode_ray_inputs(directions, code, "triton")
    assert encoded[0].isfinite().all()
    assert encoded[1, 16].isnan()


def test_directions_can_have_a_gradient() -> None:
    directions, code = rays(3)
    encode_ray_inputs(directions.requires_grad_(), code).square().sum().backward()
    assert directions.grad is not None
    assert directions.grad.abs().sum() > 0.0
