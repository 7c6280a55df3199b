"""The Adam step: against PyTorch's Adam, all backends against the reference, and skipped entries."""

import pytest
import torch
from torch import Tensor

from blocknerf.errors import BackendError
from blocknerf.kernels.adam import adam_step
from tests.kernels.interpreted import triton_param

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "epsilon": 1e-15}


def gradients(count: int, steps: int, density: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    masks = [torch.rand(count, generator=generator) < density for _ in range(steps)]
    return [torch.randn(count, generator=generator) * mask for mask in masks]


def run(count: int, backend: str, density: float) -> tuple[Tensor, Tensor, Tensor]:
    parameter = torch.linspace(-1, 1, count)
    exp_avg, exp_avg_sq = torch.zeros(count), torch.zeros(count)
    for step, gradient in enumerate(gradients(count, 5, density), 1):
        adam_step(parameter, gradient, exp_avg, exp_avg_sq, step=step, backend=backend, **SETTINGS)
    return parameter, exp_avg, exp_avg_sq


@pytest.mark.parametrize(
    ("backend", "count"),
    [*(("numba", count) for count in (1, 63, 64, 1000, 50_001)), *(triton_param(count) for count in (1, 63, 2051))],
)
@pytest.mark.parametrize("density", [1.0, 0.4, 0.01])
def test_other_backends_match_the_reference(backend: str, count: int, density: float) -> None:
    for value, expected in zip(run(count, backend, density), run(count, "torch", density), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
def test_dense_gradients_match_pytorchs_adam(backend: str) -> None:
    expected = torch.linspace(-1, 1, 500).requires_grad_()
    optimizer = torch.optim.Adam([expected], lr=SETTINGS["lr"], betas=SETTINGS["betas"], eps=1e-15)
    for gradient in gradients(500, 5, 1.0):
        expected.grad = gradient.clone()
        optimizer.step()
    parameter, exp_avg, _ = run(500, backend, 1.0)
    torch.testing.assert_close(parameter, expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(exp_avg, optimizer.state[expected]["exp_avg"])


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
def test_entries_without_gradient_are_skipped(backend: str) -> None:
    state = [torch.rand(300, 2) for _ in range(3)]
    before = [tensor.clone() for tensor in state]
    gradient = torch.zeros(300, 2)
    gradient[100] = 1.0
    adam_step(state[0], gradient, *state[1:], step=3, backend=backend, **SETTINGS)
    for after, old in zip(state, before, strict=True):
        assert torch.equal(after[:100], old[:100])
        assert torch.equal(after[101:], old[101:])
        assert not torch.isclose(after[100], old[100], rtol=1e-6).any()
    assert gradient.sum() == 2.0, "the gradient is only read"


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
def test_nan_gradient_makes_the_parameter_nan(backend: str) -> None:
    parameter, exp_avg, exp_avg_sq = torch.zeros(200), torch.zeros(200), torch.zeros(200)
    gradient = torch.zeros(200)
    gradient[150] = float("nan")
    adam_step(parameter, gradient, exp_avg, exp_avg_sq, step=1, backend=backend, **SETTINGS)
    assert parameter.isnan().nonzero().flatten().tolist() == [150]


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
def test_empty_parameter_is_allowed(backend: str) -> None:
    tensors = [torch.zeros(0, 4) for _ in range(4)]
    adam_step(*tensors, step=1, backend=backend, **SETTINGS)


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
@pytest.mark.parametrize("step", [1, 2, 1000, 200_000])
def test_step_and_lr_may_be_tensors(backend: str, step: int) -> None:
    results = []
    for convert in (lambda number: number, lambda number: torch.tensor(float(number))):
        state = [torch.full((5,), value) for value in (1.0, -0.3, 0.5, 0.25)]
        settings = {**SETTINGS, "betas": (0.9, 0.999), "lr": convert(1e-2)}
        adam_step(*state, step=convert(step), backend=backend, **settings)
        results.append(state[0])
    torch.testing.assert_close(*results, rtol=3e-7, atol=0)


@pytest.mark.parametrize("backend", ["torch", "numba", triton_param()])
def test_half_precision_copy_is_kept_up_to_date(backend: str) -> None:
    parameter = torch.tensor([0.1, 0.2, 7e4, -7e4, 0.3])
    half_copy = parameter.clamp(-65504, 65504).half()
    gradient = torch.tensor([0.0, 1.0, 1.0, 1.0, float("nan")])
    adam_step(parameter, gradient, *torch.zeros(2, 5), step=1, half_copy=half_copy, backend=backend, **SETTINGS)
    assert half_copy[:4].equal(parameter[:4].clamp(-65504, 65504).half())
    assert half_copy[0] == torch.tensor(0.1).half()
    assert half_copy[4].isnan()


def test_numba_is_deterministic() -> None:
    assert all(torch.equal(a, b) for a, b in zip(run(50_001, "numba", 0.4), run(50_001, "numba", 0.4), strict=True))


def test_parameter_with_requires_grad_is_updated_in_place() -> None:
    parameter = torch.nn.Parameter(torch.zeros(5))
    adam_step(parameter, torch.ones(5), torch.zeros(5), torch.zeros(5), step=1, **SETTINGS)
    torch.testing.assert_close(parameter.detach(), torch.full((5,), -SETTINGS["lr"]))


def test_invalid_tensors_raise() -> None:
    strided = torch.zeros(6, 2).T
    with pytest.raises(ValueError, match="contiguous"):
        adam_step(strided, *[torch.zeros(2, 6)] * 3, step=1, **SETTINGS)
    with pytest.raises(ValueError, match="steps count from 1"):
        adam_step(*[torch.zeros(3)] * 4, step=0, **SETTINGS)
    with pytest.raises(ValueError, match="lr must be a number or a 0-dimensional tensor on cpu"):
        adam_step(*[torch.zeros(3)] * 4, step=1, **{**SETTINGS, "lr": torch.ones(1)})
    with pytest.raises(ValueError, match="contiguous"):
        adam_step(*[torch.zeros(3)] * 4, step=1, half_copy=torch.zeros(6).half()[::2], **SETTINGS)
    with pytest.raises(BackendError, match="float32 only"):
        adam_step(*[torch.zeros(3).double()] * 4, step=1, backend="numba", **SETTINGS)
