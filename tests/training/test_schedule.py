"""What a step's numbers are, as numbers and as tensors that stay where they are."""

from dataclasses import astuple, fields

import pytest
import torch

from blocknerf.training.config import TrainConfig
from blocknerf.training.schedule import DeviceSchedule, StepSchedule, progress_at, schedule_at, trains_proposals

CONFIG = TrainConfig(steps=200)


@pytest.mark.parametrize("fading", [None, 8])
@pytest.mark.parametrize("config", [CONFIG, TrainConfig(steps=60, pose_restarts=3)])
def test_a_device_holds_the_same_pace(config: TrainConfig, fading: int | None) -> None:
    device = DeviceSchedule(config, fading, "cpu")
    held = [getattr(device.schedule, field.name).data_ptr() for field in fields(StepSchedule)]
    for step in (0, 1, 19, 20, 77, 179, 199, 200):
        assert device.set_step(step) is device.schedule
        for mine, theirs in zip(
            astuple(device.schedule), astuple(schedule_at(min(step, config.total_steps), config, fading)), strict=True
        ):
            assert mine.shape == ()
            assert float(mine) == pytest.approx(float("inf") if theirs is None else theirs, rel=1e-6)
    assert held == [getattr(device.schedule, field.name).data_ptr() for field in fields(StepSchedule)]


def test_each_round_is_a_training_of_its_own() -> None:
    config = TrainConfig(steps=2000, pose_restarts=3)
    assert (config.pose_steps, config.total_steps) == (900, 3800)
    found = {step: progress_at(step, config) for step in (0, 899, 900, 1799, 1800, 3799)}
    assert [(place.step, place.steps) for place in found.values()] == [
        *((0, 900), (899, 900), (0, 900), (899, 900)),
        *((0, 2000), (1999, 2000)),
    ]
    paces = [schedule_at(step, config, 8) for step in (0, 900, 1800)]
    assert [(pace.count, pace.step_in_round, pace.num_levels) for pace in paces] == [
        (1, 1, 3.0),
        (901, 1, 3.0),
        (1801, 1, 3.0),
    ]
    assert len({pace.grid_lr for pace in paces}) == 1
    assert progress_at(7, TrainConfig(steps=2000)) == progress_at(1807, config)


def test_a_training_that_goes_on_keeps_its_last_pace() -> None:
    device = DeviceSchedule(CONFIG, None, "cpu")
    last = torch.stack(astuple(device.set_step(200)))
    assert torch.equal(last, torch.stack(astuple(device.set_step(5000))))


def test_proposals_learn_on_every_step_at_first_and_then_on_every_other() -> None:
    assert [trains_proposals(step, CONFIG) for step in (0, 1, 19, 20, 21, 22)] == [True, True, True, True, False, True]
