"""What a step's numbers are, as numbers and as tensors that stay where they are."""

from dataclasses import astuple, fields

import pytest
import torch

from blocknerf.training.config import TrainConfig
from blocknerf.training.pace import DevicePace, Pace, learns_proposals, pace_at, place_of

CONFIG = TrainConfig(steps=200)


@pytest.mark.parametrize("fading", [None, 8])
@pytest.mark.parametrize("config", [CONFIG, TrainConfig(steps=60, pose_rounds=3)])
def test_a_device_holds_the_same_pace(config: TrainConfig, fading: int | None) -> None:
    device = DevicePace(config, fading, "cpu")
    held = [getattr(device.pace, field.name).data_ptr() for field in fields(Pace)]
    for step in (0, 1, 19, 20, 77, 179, 199, 200):
        assert device.turn(step) is device.pace
        for mine, theirs in zip(
            astuple(device.pace), astuple(pace_at(min(step, config.total_steps), config, fading)), strict=True
        ):
            assert mine.shape == ()
            assert float(mine) == pytest.approx(float("inf") if theirs is None else theirs, rel=1e-6)
    assert held == [getattr(device.pace, field.name).data_ptr() for field in fields(Pace)]


def test_each_round_is_a_training_of_its_own() -> None:
    config = TrainConfig(steps=2000, pose_rounds=3)
    assert (config.pose_steps, config.total_steps) == (900, 3800)
    found = {step: place_of(step, config) for step in (0, 899, 900, 1799, 1800, 3799)}
    assert [(place.step, place.steps) for place in found.values()] == [
        *((0, 900), (899, 900), (0, 900), (899, 900)),
        *((0, 2000), (1999, 2000)),
    ]
    paces = [pace_at(step, config, 8) for step in (0, 900, 1800)]
    assert [(pace.count, pace.age, pace.levels) for pace in paces] == [(1, 1, 3.0), (901, 1, 3.0), (1801, 1, 3.0)]
    assert len({pace.grid_rate for pace in paces}) == 1
    assert place_of(7, TrainConfig(steps=2000)) == place_of(1807, config)


def test_a_training_that_goes_on_keeps_its_last_pace() -> None:
    device = DevicePace(CONFIG, None, "cpu")
    last = torch.stack(astuple(device.turn(200)))
    assert torch.equal(last, torch.stack(astuple(device.turn(5000))))


def test_proposals_learn_on_every_step_at_first_and_then_on_every_other() -> None:
    assert [learns_proposals(step, CONFIG) for step in (0, 1, 19, 20, 21, 22)] == [True, True, True, True, False, True]
