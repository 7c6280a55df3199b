"""What a step's numbers are, as numbers and as tensors that stay where they are."""

from dataclasses import astuple, fields

import pytest
import torch

from blocknerf.training.config import TrainConfig
from blocknerf.training.pace import DevicePace, Pace, learns_proposals, pace_at

CONFIG = TrainConfig(steps=200)


@pytest.mark.parametrize("fading", [None, 8])
def test_a_device_holds_the_same_pace(fading: int | None) -> None:
    device = DevicePace(CONFIG, fading, "cpu")
    held = [getattr(device.pace, field.name).data_ptr() for field in fields(Pace)]
    for step in (0, 1, 19, 20, 77, 199, 200):
        assert device.turn(step) is device.pace
        for mine, theirs in zip(astuple(device.pace), astuple(pace_at(step, CONFIG, fading)), strict=True):
            assert mine.shape == ()
            assert float(mine) == pytest.approx(float("inf") if theirs is None else theirs, rel=1e-6)
    assert held == [getattr(device.pace, field.name).data_ptr() for field in fields(Pace)]


def test_a_training_that_goes_on_keeps_its_last_pace() -> None:
    device = DevicePace(CONFIG, None, "cpu")
    last = torch.stack(astuple(device.turn(200)))
    assert torch.equal(last, torch.stack(astuple(device.turn(5000))))


def test_proposals_learn_on_every_step_at_first_and_then_on_every_other() -> None:
    assert [learns_proposals(step, CONFIG) for step in (0, 1, 19, 20, 21, 22)] == [True, True, True, True, False, True]
