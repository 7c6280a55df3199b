"""Trainers of one block, as the training job and the Python API make them."""

from typing import Any

import pytest
import torch

from blocknerf.errors import OptionError
from blocknerf.kernels.backends import BackendWarning
from blocknerf.partitioning.block import Block
from blocknerf.training import overrides
from blocknerf.training.setup import make_config, make_trainer

BLOCK = Block(name="b000", origin=(0.0, 0.0, 0.0), radius=2.0)
FRAMES = (0, 2, 4)
SMALL = {"log2_hashmap_size": 8, "num_levels": 2, "num_proposal_samples": 8, "num_samples": 4}


def test_the_seed_and_the_configuration_decide_the_result(ball: Any) -> None:
    config = make_config(ball.clean, FRAMES, steps=5, seed=3, rays_per_step=64)
    trainers = [make_trainer(ball.clean, BLOCK, FRAMES, config=config, field=SMALL) for _ in range(2)]
    losses = [[trainer.train_step().loss for _ in range(3)] for trainer in trainers]
    assert losses[0] == losses[1]
    assert trainers[0].field.spec.num_levels == 2
    assert trainers[0].config.steps == 5


def test_the_default_configuration_is_the_presets(ball: Any) -> None:
    trainer = make_trainer(ball.clean, BLOCK, FRAMES)
    assert trainer.config == make_config(ball.clean, FRAMES)
    assert trainer.exposures.tolist() == pytest.approx([0.01] * 3)


@pytest.mark.filterwarnings(f"ignore::{BackendWarning.__module__}.{BackendWarning.__name__}")
@pytest.mark.parametrize("name", [name for name in overrides.PARAMETERS["field"] if name not in ("near", "far")])
def test_a_field_trains_with_the_least_value_of_each_parameter(ball: Any, name: str) -> None:
    least = int(overrides._range(name, int)[0])
    values = {**SMALL, name: least, **({"base_resolution": 1} if name == "max_resolution" else {})}
    config = make_config(ball.clean, FRAMES, steps=1, rays_per_step=32)
    metrics = make_trainer(ball.clean, BLOCK, FRAMES, config=config, field=values).train_step()
    assert torch.isfinite(metrics.values).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_resolution": 8}, "--set: field.base_resolution 16 exceeds field.max_resolution 8; set both"),
        ({"near": 9.0, "far": 3.0}, "--set: field.near 9 exceeds field.far 3; set both"),
    ],
)
def test_contradictory_field_parameters_are_refused(ball: Any, values: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_trainer(ball.clean, BLOCK, FRAMES, field=values)
