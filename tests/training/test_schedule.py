"""Schedules as Python numbers and as fixed tensors on a device."""

from dataclasses import astuple, fields

import pytest
import torch

from blocknerf.training.config import TrainConfig
from blocknerf.training.schedule import DeviceSchedule, StepSchedule, progress_at, schedule_at, trains_proposals

CONFIG = TrainConfig(steps=200)


@pytest.mark.parametrize("num_fading_levels", [None, 8])
@pytest.mark.parametrize("config", [CONFIG, TrainConfig(steps=60, pose_restarts=3)])
def test_device_schedule_matches(config: TrainConfig, num_fading_levels: int | None) -> None:
    device = DeviceSchedule(config, num_fading_levels, "cpu")
    addresses = [getattr(device.schedule, field.name).data_ptr() for field in fields(StepSchedule)]
    for step in (0, 1, 19, 20, 77, 179, 199, 200):
        assert device.set_step(step) is device.schedule
        for actual, expected in zip(
            astuple(device.schedule),
            astuple(schedule_at(min(step, config.total_steps), config, num_fading_levels)),
            strict=True,
        ):
            assert actual.shape == ()
            assert float(actual) == pytest.approx(float("inf") if expected is None else expected, rel=1e-6)
    assert addresses == [getattr(device.schedule, field.name).data_ptr() for field in fields(StepSchedule)]


def test_each_round_has_its_own_schedule() -> None:
    config = TrainConfig(steps=2000, pose_restarts=3)
    assert (config.pose_steps, config.total_steps) == (900, 3800)
    positions = {step: progress_at(step, config) for step in (0, 899, 900, 1799, 1800, 3799)}
    assert [(position.step, position.steps) for position in positions.values()] == [
        *((0, 900), (899, 900), (0, 900), (899, 900)),
        *((0, 2000), (1999, 2000)),
    ]
    schedules = [schedule_at(step, config, 8) for step in (0, 900, 1800)]
    assert [(schedule.count, schedule.step_in_round, schedule.num_levels) for schedule in schedules] == [
        (1, 1, 3.0),
        (901, 1, 3.0),
        (1801, 1, 3.0),
    ]
    assert len({schedule.grid_lr for schedule in schedules}) == 1
    assert progress_at(7, TrainConfig(steps=2000)) == progress_at(1807, config)


def test_steps_beyond_the_last_use_its_values() -> None:
    device = DeviceSchedule(CONFIG, None, "cpu")
    last = torch.stack(astuple(device.set_step(200)))
    assert torch.equal(last, torch.stack(astuple(device.set_step(5000))))


def test_proposals_are_trained_on_every_step_at_first_and_then_on_every_second() -> None:
    assert [trains_proposals(step, CONFIG) for step in (0, 1, 19, 20, 21, 22)] == [True, True, True, True, False, True]


@pytest.mark.parametrize(("steps", "ratio"), [(900, 0.3), (6000, 0.1), (100_000, 0.006)])
def test_longer_trainings_end_at_a_lower_rate(steps: int, ratio: float) -> None:
    config = TrainConfig(steps=steps)
    assert schedule_at(steps, config).grid_lr == pytest.approx(config.grid_lr * ratio)


def test_rounds_of_pose_refinement_end_at_the_rate_of_their_own_length() -> None:
    config = TrainConfig(steps=60_000, pose_restarts=2)
    last_of_poses, last = (schedule_at(step, config).mlp_lr / config.mlp_lr for step in (899, config.total_steps))
    assert last_of_poses == pytest.approx(0.3, rel=0.01)
    assert last == pytest.approx(0.01)
