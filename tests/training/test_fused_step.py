"""Compare training steps with the Triton kernels, run by the interpreter, to steps with the CPU kernels."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS
from blocknerf.metrics import psnr
from blocknerf.rendering.image import render_image
from blocknerf.training.trainer import Trainer
from tests.kernels.interpreted import needs_triton
from tests.training.test_trainer_on_device import MakeTrainer, on_device

RAYS = 24
TOLERANCE_DB = 0.1


@pytest.fixture
def use_gpu_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that makes `auto` choose the GPU kernels from then on."""
    original = backends._resolve_backend

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        triton = "triton" if backend == "auto" and "triton" in OPERATIONS[operation] and dtype == torch.float32 else ""
        return triton or original(operation, backend, device, dtype)

    return lambda: monkeypatch.setattr(backends, "_resolve_backend", choose)


@needs_triton
def test_step_matches_cpu_kernels(ball: Any, make_trainer: MakeTrainer, use_gpu_kernels: Callable[[], None]) -> None:
    numba, triton = (on_device(make_trainer(ball.masked, steps=20, rays=RAYS)) for _ in range(2))
    for network in (triton.field.base, *triton.field.proposals, triton.field.visibility_net):
        network.half_table = network.table.detach().half()
    triton = Trainer(triton.field, triton.pixels, triton.exposures, triton.config)
    for trainer in (numba, triton):
        trainer.exposures[1:] *= 2.0  # At the reference exposure the response has no gradient.
    expected = numba.train_step().loss
    use_gpu_kernels()
    assert triton.train_step().loss == pytest.approx(expected, rel=1e-3)
    for name, value in triton.optimizer.exp_avg.items():
        # The first moment after one step is the gradient times a constant.
        gradient = numba.optimizer.exp_avg[name].double()
        assert float((value.double() - gradient).norm() / gradient.norm()) < 3e-2, name
    assert torch.equal(triton.field.base.half_table, triton.field.base.table.detach().half())


@needs_triton
def test_rendering_matches_cpu_kernels(ball: Any, trained_clean: Trainer, use_gpu_kernels: Callable[[], None]) -> None:
    field = copy.deepcopy(trained_clean.field).eval().requires_grad_(False)
    # A quarter of the size, since the interpreter is slow.
    target = torch.from_numpy(ball.clean.read_image(3, 4)).float() / 255.0
    cameras = ball.clean.cameras().scaled(0.25)
    scores = []
    for select_kernels in (lambda: None, use_gpu_kernels):
        select_kernels()
        rendering = render_image(field, cameras.generate_rays(3), field.mean_appearance_code(), 0.01)
        scores.append(float(psnr(rendering.color, target)))
    print(f"PSNR: {scores[0]:.3f} dB with CPU kernels, {scores[1]:.3f} dB with GPU kernels")
    assert scores[0] > 15.0
    assert abs(scores[0] - scores[1]) < TOLERANCE_DB
