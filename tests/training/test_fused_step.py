"""Whole steps by the kernels for a GPU, which Triton interprets, beside the same steps by the processor's."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS
from blocknerf.metrics.image_quality import psnr
from blocknerf.rendering.image import render_image
from blocknerf.training.trainer import Trainer
from tests.kernels.interpreted import needs_triton
from tests.training.test_trainer_on_device import MakeTrainer, on_device

RAYS = 24
CLOSE_IN_DB = 0.1


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, the kernels that `auto` takes on a GPU are taken here."""
    chosen, used = backends._chosen, set()

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        taken = "triton" if backend == "auto" and "triton" in OPERATIONS[operation] and dtype == torch.float32 else ""
        used.add((operation, taken))
        return taken or chosen(operation, backend, device, dtype)

    return lambda: monkeypatch.setattr(backends, "_chosen", choose)


@needs_triton
def test_a_step_learns_the_same(ball: Any, trainer_of: MakeTrainer, as_on_a_gpu: Callable[[], None]) -> None:
    native, fused = (on_device(trainer_of(ball.masked, steps=20, rays=RAYS)) for _ in range(2))
    for network in (fused.field.base, *fused.field.proposals, fused.field.visibility_net):
        network.half_table = network.table.detach().half()
    fused = Trainer(fused.field, fused.pixels, fused.exposures, fused.config)
    expected = native.train_step().loss
    as_on_a_gpu()
    assert fused.train_step().loss == pytest.approx(expected, rel=1e-3)
    for name, value in fused.optimizer.exp_avg.items():
        # The first moment after one step is the gradient, but for a factor.
        truth = native.optimizer.exp_avg[name].double()
        assert float((value.double() - truth).norm() / truth.norm()) < 3e-2, name
    assert torch.equal(fused.field.base.half_table, fused.field.base.table.detach().half())


@needs_triton
def test_a_block_looks_the_same_wherever_it_is_rendered(
    ball: Any, trained_clean: Trainer, as_on_a_gpu: Callable[[], None]
) -> None:
    field = copy.deepcopy(trained_clean.field).eval().requires_grad_(False)
    # At a quarter of the size: the interpreter takes its time.
    truth = torch.from_numpy(ball.clean.read_image(3, 4)).float() / 255.0
    cameras = ball.clean.cameras().scaled(0.25)
    scores = []
    for change in (lambda: None, as_on_a_gpu):
        change()
        picture = render_image(field, cameras.generate_rays(3), field.mean_appearance_code(), 0.01)
        scores.append(float(psnr(picture.color, truth)))
    print(f"PSNR by the processor's kernels and by a GPU's: {scores[0]:.3f} and {scores[1]:.3f} dB")
    assert scores[0] > 15.0
    assert abs(scores[0] - scores[1]) < CLOSE_IN_DB
