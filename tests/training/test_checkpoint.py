"""The state of an unfinished training: going on is as if it had never stopped, and nothing broken is taken or left."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.errors import CheckpointError, TrainingError
from blocknerf.training.checkpoint import FILE, restore_state, save_state
from blocknerf.training.trainer import Trainer
from tests.tensor_files import rewrite

MakeTrainer = Callable[..., Trainer]


def advance(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.train_step()
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.field.named_parameters()}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, ball: Any, trainer_of: MakeTrainer) -> Path:
    """A training that was stopped after 10 of 20 steps."""
    path = tmp_path_factory.mktemp("stopped") / "state.safetensors"
    save_state(advance(trainer_of(ball.clean, steps=20), 10), path, seconds=1.5)
    return path


@pytest.fixture
def saved(stopped: Path, tmp_path: Path) -> Path:
    """A copy of its checkpoint."""
    path = tmp_path / "checkpoint" / "state.safetensors"
    path.parent.mkdir()
    shutil.copy(stopped, path)
    return path


@pytest.fixture(scope="module")
def straight(ball: Any, trainer_of: MakeTrainer) -> dict[str, torch.Tensor]:
    """The weights after 20 steps without a stop."""
    return weights(advance(trainer_of(ball.clean, steps=20), 20))


def test_a_resumed_training_is_the_same_to_the_last_bit(
    saved: Path, straight: dict[str, torch.Tensor], ball: Any, trainer_of: MakeTrainer
) -> None:
    resumed = trainer_of(ball.clean, steps=20)
    assert restore_state(resumed, saved) == 1.5
    assert resumed.step == 10
    again = weights(advance(resumed, 10))
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def in_two_segments(capture: Capture) -> Capture:
    frames = (dataclasses.replace(frame, segment=f"drive{i % 2}") for i, frame in enumerate(capture.frames))
    return dataclasses.replace(capture, frames=tuple(frames))


@pytest.mark.parametrize(("steps", "rounds"), [(20, 1), (8, 3), (10, 2)])
def test_a_resumed_training_of_poses_is_the_same_to_the_last_bit(
    tmp_path: Path, ball: Any, trainer_of: MakeTrainer, steps: int, rounds: int
) -> None:
    """The last is stopped just before a round begins."""
    capture = in_two_segments(ball.clean)
    choices = {"steps": steps, "pose_refinement": True, "pose_restarts": rounds}
    straight, stopped, resumed = (trainer_of(capture, **choices) for _ in range(3))
    save_state(advance(stopped, 10), tmp_path / "state.safetensors", seconds=1.0)
    restore_state(resumed, tmp_path / "state.safetensors")
    assert torch.equal(resumed.pixels.cameras.camera_to_world, stopped.pixels.cameras.camera_to_world)
    first, again = weights(advance(straight, 20)), weights(advance(resumed, 10))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert straight.poses.tangents.any()
    assert all(torch.equal(value, resumed.poses.state()[name]) for name, value in straight.poses.state().items())


def test_a_trimmed_training_goes_on_with_what_it_knows_of_outliers(
    tmp_path: Path, ball: Any, trainer_of: MakeTrainer
) -> None:
    path, choices = tmp_path / "state.safetensors", {"steps": 20, "robust_trim": 0.3}
    straight = advance(trainer_of(ball.unmasked, **choices), 20)
    save_state(advance(trainer_of(ball.unmasked, **choices), 12), path, seconds=0.0)
    resumed, forgetful = trainer_of(ball.unmasked, **choices), trainer_of(ball.unmasked, **choices)
    for trainer in (resumed, forgetful):
        restore_state(trainer, path)
    forgetful.inliers.cells.zero_()
    first, again, other = weights(straight), weights(advance(resumed, 8)), weights(advance(forgetful, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_training_without_its_moments_would_not_be_the_same(
    saved: Path, straight: dict[str, torch.Tensor], ball: Any, trainer_of: MakeTrainer
) -> None:
    forgetful = trainer_of(ball.clean, steps=20)
    restore_state(forgetful, saved)
    for value in forgetful.optimizer.state().values():
        value.zero_()
    again = weights(advance(forgetful, 10))
    assert not all(torch.equal(straight[name], again[name]) for name in straight)


def test_saving_does_not_disturb_the_training(tmp_path: Path, ball: Any, trainer_of: MakeTrainer) -> None:
    straight, watched = (advance(trainer_of(ball.clean, steps=20), 2) for _ in range(2))
    save_state(watched, tmp_path / "state.safetensors", seconds=0.0)
    first, second = weights(advance(straight, 2)), weights(advance(watched, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(
    saved: Path, ball: Any, trainer_of: MakeTrainer, value: float
) -> None:
    before = saved.read_bytes()
    trainer = advance(trainer_of(ball.clean, steps=20), 1)
    with torch.no_grad():
        trainer.field.appearance_codes[0, 0] = value
    with pytest.raises(TrainingError, match="codes is not finite after step 1; the last good checkpoint is kept"):
        save_state(trainer, saved, seconds=2.0)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_after_a_failed_step_the_last_checkpoint_can_still_be_read(
    saved: Path, ball: Any, trainer_of: MakeTrainer
) -> None:
    trainer = trainer_of(ball.clean, steps=20)
    restore_state(trainer, saved)
    trainer.exposures[:] = float("nan")
    with pytest.raises(TrainingError, match="step 10"):
        trainer.train_step()
    fresh = trainer_of(ball.clean, steps=20)
    restore_state(fresh, saved)
    assert fresh.step == 10
    advance(fresh, 1)


def refusal(trainer: Trainer, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        restore_state(trainer, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"steps": 30}, "was trained with steps = 20, now 30"),
        ({"steps": 20, "rays_per_step": 128}, "was trained with rays_per_step = 256, now 128"),
        ({"steps": 20, "seed": 1}, "was trained with seed = 0, now 1"),
        ({"steps": 20, "frames": (0, 1, 2)}, "was trained with frames = "),
    ],
)
def test_other_settings_are_refused(
    saved: Path, ball: Any, trainer_of: MakeTrainer, choices: dict[str, Any], told: str
) -> None:
    message = refusal(trainer_of(ball.clean, **choices), saved)
    assert told in message
    assert message.endswith("use the same settings, or delete it to train from the start")


def test_every_setting_is_compared(saved: Path, ball: Any, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(ball.clean, steps=20)
    for field in dataclasses.fields(trainer.config):
        held = getattr(trainer.config, field.name)
        other = trainer_of(ball.clean, steps=20)
        changed = not held if isinstance(held, bool) else held + 1
        other.config = dataclasses.replace(trainer.config, **{field.name: changed})
        assert f"was trained with {field.name} = " in refusal(other, saved)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(saved: Path, ball: Any, trainer_of: MakeTrainer, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    trainer = trainer_of(ball.clean, steps=20)
    assert "not a readable checkpoint" in refusal(trainer, saved)
    assert trainer.step == 0


@pytest.mark.parametrize("found", ["blocknerf.training/0", "blocknerf.field/1", "training"])
def test_another_format_is_refused(saved: Path, ball: Any, trainer_of: MakeTrainer, found: str) -> None:
    rewrite(FILE, saved, format=found)
    assert f"format: '{found}' is not blocknerf.training/3" in refusal(trainer_of(ball.clean, steps=20), saved)


@pytest.mark.parametrize("drop", ["field.appearance_codes", "exp_avg.appearance_codes", "exp_avg_sq.base.table"])
def test_a_missing_tensor_is_refused(saved: Path, ball: Any, trainer_of: MakeTrainer, drop: str) -> None:
    rewrite(FILE, saved, {drop: None})
    assert f"corrupt checkpoint ('{drop}')" in refusal(trainer_of(ball.clean, steps=20), saved)


@pytest.mark.parametrize(
    "metadata", [{"step": "ten"}, {"seconds": ""}, {"config": "{"}, {"config": "[]"}, {"spec": "null"}]
)
def test_broken_facts_are_refused(saved: Path, ball: Any, trainer_of: MakeTrainer, metadata: dict[str, str]) -> None:
    rewrite(FILE, saved, **metadata)
    assert "corrupt checkpoint" in refusal(trainer_of(ball.clean, steps=20), saved)


def test_a_tensor_of_another_shape_is_refused(saved: Path, ball: Any, trainer_of: MakeTrainer) -> None:
    rewrite(FILE, saved, {"field.appearance_codes": torch.zeros(3, 7)})
    assert "corrupt checkpoint" in refusal(trainer_of(ball.clean, steps=20), saved)


def test_what_is_not_finite_is_refused(saved: Path, ball: Any, trainer_of: MakeTrainer) -> None:
    rewrite(FILE, saved, {"field.appearance_codes": torch.full((13, 4), float("nan"))})
    assert "corrupt checkpoint" in refusal(trainer_of(ball.clean, steps=20), saved)
