"""The Adam step: against PyTorch's own, the other backends against the reference, and what it leaves alone."""

import pytest
import torch
from torch import Tensor

from blocknerf.errors import BackendError
from blocknerf.kernels.adam import adam_step
from tests.kernels.interpreted import fused

SETTINGS = {"rate": 1e-2, "betas": (0.9, 0.99), "epsilon": 1e-15}


def gradients(count: int, steps: int, density: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    kept = [torch.rand(count, generator=generator) < density for _ in range(steps)]
    return [torch.randn(count, generator=generator) * keep for keep in kept]


def run(count: int, backend: str, density: float) -> tuple[Tensor, Tensor, Tensor]:
    parameter = torch.linspace(-1, 1, count)
    first, second = torch.zeros(count), torch.zeros(count)
    for step, gradient in enumerate(gradients(count, 5, density), 1):
        adam_step(parameter, gradient, first, second, step=step, backend=backend, **SETTINGS)
    return parameter, first, second


@pytest.mark.parametrize(
    ("backend", "count"),
    [*(("numba", count) for count in (1, 63, 64, 1000, 50_001)), *(fused(count) for count in (1, 63, 2051))],
)
@pytest.mark.parametrize("density", [1.0, 0.4, 0.01])
def test_other_backends_match_the_reference(backend: str, count: int, density: float) -> None:
    for value, truth in zip(run(count, backend, density), run(count, "torch", density), strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["torch", "numba", fused()])
def test_dense_gradients_give_pytorchs_adam(backend: str) -> None:
    theirs = torch.linspace(-1, 1, 500).requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=SETTINGS["rate"], betas=SETTINGS["betas"], eps=1e-15)
    for gradient in gradients(500, 5, 1.0):
        theirs.grad = gradient.clone()
        optimizer.step()
    ours, first, _ = run(500, backend, 1.0)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first, optimizer.state[theirs]["exp_avg"])


@pytest.mark.parametrize("backend", ["torch", "numba", fused()])
def test_entries_without_gradient_are_left_alone(backend: str) -> None:
    state = [torch.rand(300, 2) for _ in range(3)]
    before = [tensor.clone() for tensor in state]
    gradient = torch.zeros(300, 2)
    gradient[100] = 1.0
    adam_step(state[0], gradient, *state[1:], step=3, backend=backend, **SETTINGS)
    for after, then in zip(state, before, strict=True):
        assert torch.equal(after[:100], then[:100])
        assert torch.equal(after[101:], then[101:])
        assert not torch.isclose(after[100], then[100], rtol=1e-6).any()
    assert gradient.sum() == 2.0, "the gradient itself is only read"


@pytest.mark.parametrize("backend", ["torch", "numba", fused()])
def test_nan_is_not_hidden(backend: str) -> None:
    parameter, first, second = torch.zeros(200), torch.zeros(200), torch.zeros(200)
    gradient = torch.zeros(200)
    gradient[150] = float("nan")
    adam_step(parameter, gradient, first, second, step=1, backend=backend, **SETTINGS)
    assert parameter.isnan().nonzero().flatten().tolist() == [150]


@pytest.mark.parametrize("backend", ["torch", "numba", fused()])
def test_an_empty_parameter_is_no_error(backend: str) -> None:
    tensors = [torch.zeros(0, 4) for _ in range(4)]
    adam_step(*tensors, step=1, backend=backend, **SETTINGS)


@pytest.mark.parametrize("backend", ["torch", "numba", fused()])
@pytest.mark.parametrize("step", [1, 2, 1000, 200_000])
def test_step_and_rate_may_lie_in_memory(backend: str, step: int) -> None:
    found = []
    for as_given in (lambda number: number, lambda number: torch.tensor(float(number))):
        state = [torch.full((5,), value) for value in (1.0, -0.3, 0.5, 0.25)]
        settings = {**SETTINGS, "betas": (0.9, 0.999), "rate": as_given(1e-2)}
        adam_step(*state, step=as_given(step), backend=backend, **settings)
        found.append(state[0])
    torch.testing.assert_close(*found, rtol=3e-7, atol=0)


@pytest.mark.parametrize("backend", ["torch", "numba", fused()])
def test_a_half_precision_copy_is_kept_up_to_date(backend: str) -> None:
    parameter = torch.tensor([0.1, 0.2, 7e4, -7e4, 0.3])
    half = parameter.clamp(-65504, 65504).half()
    gradient = torch.tensor([0.0, 1.0, 1.0, 1.0, float("nan")])
    adam_step(parameter, gradient, *torch.zeros(2, 5), step=1, half=half, backend=backend, **SETTINGS)
    assert half[:4].equal(parameter[:4].clamp(-65504, 65504).half())
    assert half[0] == torch.tensor(0.1).half()
    assert half[4].isnan()


def test_native_is_deterministic() -> None:
    assert all(torch.equal(a, b) for a, b in zip(run(50_001, "numba", 0.4), run(50_001, "numba", 0.4), strict=True))


def test_a_parameter_that_wants_gradients_is_updated_in_place() -> None:
    parameter = torch.nn.Parameter(torch.zeros(5))
    adam_step(parameter, torch.ones(5), torch.zeros(5), torch.zeros(5), step=1, **SETTINGS)
    torch.testing.assert_close(parameter.detach(), torch.full((5,), -SETTINGS["rate"]))


def test_tensors_that_cannot_be_updated_in_place_are_refused() -> None:
    strided = torch.zeros(6, 2).T
    with pytest.raises(ValueError, match="contiguous"):
        adam_step(strided, *[torch.zeros(2, 6)] * 3, step=1, **SETTINGS)
    with pytest.raises(ValueError, match="count from 1"):
        adam_step(*[torch.zeros(3)] * 4, step=0, **SETTINGS)
    with pytest.raises(ValueError, match="rate must be a number or a 0-dimensional tensor on cpu"):
        adam_step(*[torch.zeros(3)] * 4, step=1, **{**SETTINGS, "rate": torch.ones(1)})
    with pytest.raises(ValueError, match="contiguous"):
        adam_step(*[torch.zeros(3)] * 4, step=1, half=torch.zeros(6).half()[::2], **SETTINGS)
    with pytest.raises(BackendError, match="float32 only"):
        adam_step(*[torch.zeros(3).double()] * 4, step=1, backend="numba", **SETTINGS)
