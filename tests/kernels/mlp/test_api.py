"""The MLP: gradients of the reference, and the numba backend against it."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from blocknerf.errors import BackendError
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.threads import available_cores, set_num_threads

NETWORKS = [(32, 32, 16), (16, 32, 32, 3), (10, 16, 1), (12, 16, 1), (5, 64, 64, 7), (1, 17, 2)]


def parameters(widths: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(len(widths) + widths[0])
    pairs = list(pairwise(widths))
    weights = [torch.randn(b, a, generator=generator, dtype=dtype) / a**0.5 for a, b in pairs]
    biases = [torch.randn(b, generator=generator, dtype=dtype) * 0.3 for _, b in pairs]
    return [w.requires_grad_() for w in weights], [b.requires_grad_() for b in biases]


def run(widths: tuple[int, ...], points: int, rays: int | None, backend: str) -> list[Tensor]:
    """Return outputs, then gradients of the inputs, the weights, the biases and the ray bias."""
    generator = torch.Generator().manual_seed(points)
    weights, biases = parameters(widths)
    inputs = torch.randn(points, widths[0], generator=generator).requires_grad_()
    ray_bias = None if rays is None else torch.randn(rays, widths[1], generator=generator).requires_grad_()
    out = mlp(inputs, weights, biases, ray_bias, backend)
    leaves = [inputs, *weights, *biases, *([] if ray_bias is None else [ray_bias])]
    return [out, *torch.autograd.grad((out * torch.randn(out.shape, generator=generator)).sum(), leaves)]


def assert_close(values: list[Tensor], expected_values: list[Tensor]) -> None:
    for value, expected in zip(values, expected_values, strict=True):
        scale = expected.norm().clamp_min(1e-12)
        # A sum within rounding of zero may be on either side of the ReLU, so the tolerance is not tighter.
        assert (value - expected).norm() / scale < 2e-4
        assert torch.cosine_similarity(value.flatten(), expected.flatten(), 0) > 1 - 1e-6


@pytest.mark.parametrize("widths", NETWORKS)
@pytest.mark.parametrize(("points", "rays"), [(1, None), (63, 7), (64, 64), (1000, None), (3000, 3), (2400, 100)])
def test_numba_matches_reference(widths: tuple[int, ...], points: int, rays: int | None) -> None:
    assert_close(run(widths, points, rays, "numba"), run(widths, points, rays, "torch"))


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("rays", [None, 0])
def test_no_points_have_empty_outputs_and_zero_gradients(backend: str, rays: int | None) -> None:
    out, *gradients = run((4, 16, 3), 0, rays, backend)
    assert out.shape == (0, 3)
    assert all((gradient == 0).all() for gradient in gradients)


def test_reference_passes_gradcheck() -> None:
    weights, biases = parameters((3, 5, 4, 2), torch.float64)
    inputs = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ray_bias = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def function(inputs: Tensor, ray_bias: Tensor, *parameters: Tensor) -> Tensor:
        return mlp(inputs, parameters[:3], parameters[3:], ray_bias)

    assert torch.autograd.gradcheck(function, (inputs, ray_bias, *weights, *biases))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_ray_bias_equals_repeated_inputs(backend: str) -> None:
    (first, second), biases = parameters((6, 16, 3))
    points, rays = torch.randn(40, 4), torch.randn(8, 2)
    joined = torch.cat([points, rays.repeat_interleave(5, 0)], -1)
    split = mlp(points, (first[:, :4], second), biases, rays @ first[:, 4:].T, backend)
    torch.testing.assert_close(split, mlp(joined, (first, second), biases, backend=backend))


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_nan_propagates(backend: str) -> None:
    weights, biases = parameters((8, 16, 16, 3))
    inputs = torch.randn(100, 8)
    inputs[70, 3] = float("nan")
    out = mlp(inputs, weights, biases, backend=backend)
    assert out[70].isnan().all()
    assert out[:70].isfinite().all()
    with torch.no_grad():
        weights[0][4, 4] = float("nan")
    out = mlp(inputs, weights, biases, backend=backend)
    assert out.isnan().all()
    assert torch.autograd.grad(out.sum(), weights[1])[0].isnan().any()


def test_numba_does_not_depend_on_run_or_threads() -> None:
    first, second = (run((16, 32, 32, 3), 5000, 250, "numba") for _ in range(2))
    set_num_threads(1)
    third = run((16, 32, 32, 3), 5000, 250, "numba")
    set_num_threads(available_cores())
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, third, strict=True))


def test_inputs_may_be_constants_and_views() -> None:
    weights, biases = parameters((4, 16, 2))
    inputs = torch.randn(4, 50).T
    results = []
    for backend in ("numba", "torch"):
        out = mlp(inputs, weights, biases, backend=backend)
        results.append([out, *torch.autograd.grad(out.sum(), weights)])
    assert_close(*results)


def test_ray_bias_gets_gradients_with_frozen_weights() -> None:
    weights, biases = ([tensor.detach() for tensor in group] for group in parameters((4, 16, 16, 2)))
    ray_bias = torch.randn(5, 16).requires_grad_()
    results = []
    for backend in ("numba", "torch"):
        out = mlp(torch.linspace(-1, 1, 200).view(50, 4), weights, biases, ray_bias, backend)
        results.append([out, torch.autograd.grad(out.square().sum(), ray_bias)[0]])
    assert_close(*results)


def test_requested_backend_is_not_replaced() -> None:
    weights, biases = parameters((4, 16, 2), torch.float64)
    with pytest.raises(BackendError, match="float32 only"):
        mlp(torch.zeros(3, 4, dtype=torch.float64), weights, biases, backend="numba")


def test_mismatched_shapes_raise() -> None:
    weights, biases = parameters((4, 16, 2))
    with pytest.raises(ValueError, match="weight 0 is"):
        mlp(torch.zeros(3, 5), weights, biases)
    with pytest.raises(ValueError, match="rays x samples"):
        mlp(torch.zeros(3, 4), weights, biases, torch.zeros(2, 16))
    with pytest.raises(ValueError, match="at least two"):
        mlp(torch.zeros(3, 4), weights[:1], biases[:1])
