"""Adam for a field: learning rates by parameter and step, and entries without a gradient."""

from collections.abc import Callable
from typing import Any

import torch

from blocknerf.kernels.adam import adam_step
from blocknerf.training.optimizer import BETAS, EPSILON, FieldOptimizer
from blocknerf.training.schedule import WARM_UP_STEPS, schedule_at
from blocknerf.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


def mean_update(trainer: Trainer, step: int) -> dict[str, float]:
    """Return the mean update of each parameter for gradients of one and matching moments."""
    optimizer = FieldOptimizer(trainer.field)
    for name, value in optimizer.parameters.items():
        # Moments as after many steps with gradient one, so the update is the learning rate.
        optimizer.exp_avg[name].fill_(1.0 - 0.9**step)
        optimizer.exp_avg_sq[name].fill_(1.0 - 0.99**step)
        value.grad = torch.ones_like(value)
    before = {name: value.detach().clone() for name, value in optimizer.parameters.items()}
    optimizer.step(schedule_at(step, trainer.config))
    after = optimizer.parameters
    return {name: float((before[name] - value.detach()).mean()) for name, value in after.items()}


def test_learning_rates_warm_up_and_decay(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=1000)
    config = trainer.config
    table = "base.table"
    start, warm, last = (mean_update(trainer, step)[table] for step in (1, WARM_UP_STEPS, 1000))
    assert start < 0.1 * warm
    expected = config.grid_lr * config.lr_final_ratio ** (WARM_UP_STEPS / 1000)
    assert abs(warm / expected - 1.0) < 0.02
    assert abs(last / (config.grid_lr * config.lr_final_ratio) - 1.0) < 0.02


def test_each_parameter_group_has_its_learning_rate(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=1000, grid_lr=0.4, mlp_lr=0.2, appearance_lr=0.1)
    updates = mean_update(trainer, 100)
    grid, mlp, code = updates["proposals.0.table"], updates["sky_head.layers.0.weight"], updates["appearance_codes"]
    assert abs(grid / mlp - 2.0) < 0.01
    assert abs(mlp / code - 2.0) < 0.01


def test_entries_without_a_gradient_are_unchanged(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=1000)
    optimizer, codes = FieldOptimizer(trainer.field), trainer.field.appearance_codes
    before = codes.detach().clone()
    codes.grad = torch.zeros_like(codes)
    codes.grad[1] = 1.0
    optimizer.step(schedule_at(60, trainer.config))
    unchanged = torch.arange(len(codes)) != 1
    assert torch.equal(codes.detach()[unchanged], before[unchanged])
    assert (codes.detach()[1] != before[1]).all()
    assert codes.grad is None or not codes.grad.any()


def test_flat_update_matches_separate_updates(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=10)
    field, optimizer, schedule = trainer.field, trainer.optimizer, schedule_at(5, trainer.config)
    names = [name for name in optimizer.parameters if "layers" in name]
    separate = {name: optimizer.parameters[name].detach().clone().view(-1) for name in names}
    generator, moments = torch.Generator().manual_seed(3), {name: torch.zeros(2, len(separate[name])) for name in names}
    for _ in range(3):
        for name in names[1:]:  # the first has no gradient, like proposals in most steps
            value = optimizer.parameters[name]
            value.grad = torch.randn(value.shape, generator=generator)
            adam_step(
                separate[name], value.grad.clone().view(-1), *moments[name], step=schedule.step_in_round,
                lr=schedule.mlp_lr, betas=BETAS, epsilon=EPSILON,
            )  # fmt: skip
        optimizer.step(schedule)
    parameters = dict(field.named_parameters())
    assert len(names) > 10
    assert all(torch.equal(parameters[name].detach().view(-1), separate[name]) for name in names)
    assert all(torch.equal(optimizer.exp_avg[name].view(-1), moments[name][0]) for name in names)


def test_moments_are_restored(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=10)
    for _ in range(3):
        trainer.train_step()
    other = make_trainer(ball.clean, steps=10)
    other.optimizer.restore({name: value.clone() for name, value in trainer.optimizer.state().items()})
    for name, value in trainer.optimizer.state().items():
        assert torch.equal(other.optimizer.state()[name], value)
    assert any(value.any() for value in other.optimizer.state().values())
