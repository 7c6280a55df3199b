"""Checkpoints: a resumed training equals an uninterrupted one, and invalid checkpoints are neither read nor written."""

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
def stopped(tmp_path_factory: pytest.TempPathFactory, ball: Any, make_trainer: MakeTrainer) -> Path:
    """Checkpoint of a training stopped after 10 of 20 steps."""
    path = tmp_path_factory.mktemp("stopped") / "state.safetensors"
    save_state(advance(make_trainer(ball.clean, steps=20), 10), path, seconds=1.5)
    return path


@pytest.fixture
def saved(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the `stopped` checkpoint."""
    path = tmp_path / "checkpoint" / "state.safetensors"
    path.parent.mkdir()
    shutil.copy(stopped, path)
    return path


@pytest.fixture(scope="module")
def uninterrupted(ball: Any, make_trainer: MakeTrainer) -> dict[str, torch.Tensor]:
    """The weights after 20 steps without interruption."""
    return weights(advance(make_trainer(ball.clean, steps=20), 20))


def test_resumed_training_is_bitwise_equal(
    saved: Path, uninterrupted: dict[str, torch.Tensor], ball: Any, make_trainer: MakeTrainer
) -> None:
    resumed = make_trainer(ball.clean, steps=20)
    assert restore_state(resumed, saved) == 1.5
    assert resumed.step == 10
    actual = weights(advance(resumed, 10))
    assert all(torch.equal(uninterrupted[name], actual[name]) for name in uninterrupted)


def in_two_segments(capture: Capture) -> Capture:
    frames = (dataclasses.replace(frame, segment=f"segment{i % 2}") for i, frame in enumerate(capture.frames))
    return dataclasses.replace(capture, frames=tuple(frames))


@pytest.mark.parametrize(("steps", "rounds"), [(20, 1), (8, 3), (10, 2)])
def test_resumed_pose_refinement_is_bitwise_equal(
    tmp_path: Path, ball: Any, make_trainer: MakeTrainer, steps: int, rounds: int
) -> None:
    """The last case stops just before a round starts."""
    capture = in_two_segments(ball.clean)
    options = {"steps": steps, "pose_refinement": True, "pose_restarts": rounds}
    uninterrupted, stopped, resumed = (make_trainer(capture, **options) for _ in range(3))
    save_state(advance(stopped, 10), tmp_path / "state.safetensors", seconds=1.0)
    restore_state(resumed, tmp_path / "state.safetensors")
    assert torch.equal(resumed.pixels.cameras.camera_to_world, stopped.pixels.cameras.camera_to_world)
    expected, actual = weights(advance(uninterrupted, 20)), weights(advance(resumed, 10))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert uninterrupted.poses.tangents.any()
    assert all(torch.equal(value, resumed.poses.state()[name]) for name, value in uninterrupted.poses.state().items())


def test_resumed_training_with_robust_trim_restores_outlier_statistics(
    tmp_path: Path, ball: Any, make_trainer: MakeTrainer
) -> None:
    path, options = tmp_path / "state.safetensors", {"steps": 20, "robust_trim": 0.3}
    uninterrupted = advance(make_trainer(ball.unmasked, **options), 20)
    save_state(advance(make_trainer(ball.unmasked, **options), 12), path, seconds=0.0)
    resumed, reset = make_trainer(ball.unmasked, **options), make_trainer(ball.unmasked, **options)
    for trainer in (resumed, reset):
        restore_state(trainer, path)
    reset.inliers.cells.zero_()
    expected, actual, other = weights(uninterrupted), weights(advance(resumed, 8)), weights(advance(reset, 8))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert not all(torch.equal(expected[name], other[name]) for name in expected)


def test_resumed_training_differs_without_adam_moments(
    saved: Path, uninterrupted: dict[str, torch.Tensor], ball: Any, make_trainer: MakeTrainer
) -> None:
    reset = make_trainer(ball.clean, steps=20)
    restore_state(reset, saved)
    for value in reset.optimizer.state().values():
        value.zero_()
    actual = weights(advance(reset, 10))
    assert not all(torch.equal(uninterrupted[name], actual[name]) for name in uninterrupted)


def test_saving_does_not_change_the_training(tmp_path: Path, ball: Any, make_trainer: MakeTrainer) -> None:
    unsaved, saved = (advance(make_trainer(ball.clean, steps=20), 2) for _ in range(2))
    save_state(saved, tmp_path / "state.safetensors", seconds=0.0)
    expected, actual = weights(advance(unsaved, 2)), weights(advance(saved, 2))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_not_saved(saved: Path, ball: Any, make_trainer: MakeTrainer, value: float) -> None:
    before = saved.read_bytes()
    trainer = advance(make_trainer(ball.clean, steps=20), 1)
    with torch.no_grad():
        trainer.field.appearance_codes[0, 0] = value
    with pytest.raises(TrainingError, match="codes is not finite after step 1; the last good checkpoint is kept"):
        save_state(trainer, saved, seconds=2.0)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_last_checkpoint_is_readable_after_a_failed_step(saved: Path, ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=20)
    restore_state(trainer, saved)
    trainer.exposures[:] = float("nan")
    with pytest.raises(TrainingError, match="step 10"):
        trainer.train_step()
    restored = make_trainer(ball.clean, steps=20)
    restore_state(restored, saved)
    assert restored.step == 10
    advance(restored, 1)


def error_message(trainer: Trainer, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        restore_state(trainer, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 30}, "was trained with steps = 20, now 30"),
        ({"steps": 20, "rays": 128}, "was trained with rays_per_step = 256, now 128"),
        ({"steps": 20, "seed": 1}, "was trained with seed = 0, now 1"),
        ({"steps": 20, "frames": (0, 1, 2)}, "was trained with frames = "),
    ],
)
def test_other_settings_are_rejected(
    saved: Path, ball: Any, make_trainer: MakeTrainer, options: dict[str, Any], expected: str
) -> None:
    message = error_message(make_trainer(ball.clean, **options), saved)
    assert expected in message
    assert message.endswith("use the same settings, or delete it to train from the start")


def test_every_setting_is_compared(saved: Path, ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=20)
    for field in dataclasses.fields(trainer.config):
        value = getattr(trainer.config, field.name)
        other = make_trainer(ball.clean, steps=20)
        changed = not value if isinstance(value, bool) else value + 1
        other.config = dataclasses.replace(trainer.config, **{field.name: changed})
        assert f"was trained with {field.name} = " in error_message(other, saved)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
def test_truncated_checkpoint_is_rejected(saved: Path, ball: Any, make_trainer: MakeTrainer, fraction: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(fraction * len(content))])
    trainer = make_trainer(ball.clean, steps=20)
    assert "not a readable checkpoint" in error_message(trainer, saved)
    assert trainer.step == 0


@pytest.mark.parametrize("other_format", ["blocknerf.training/0", "blocknerf.field/1", "training"])
def test_other_format_is_rejected(saved: Path, ball: Any, make_trainer: MakeTrainer, other_format: str) -> None:
    rewrite(FILE, saved, format=other_format)
    assert f"format: '{other_format}' is not blocknerf.training/4" in error_message(
        make_trainer(ball.clean, steps=20), saved
    )


@pytest.mark.parametrize("missing", ["field.appearance_codes", "exp_avg.appearance_codes", "exp_avg_sq.base.table"])
def test_missing_tensor_is_rejected(saved: Path, ball: Any, make_trainer: MakeTrainer, missing: str) -> None:
    rewrite(FILE, saved, {missing: None})
    assert f"corrupt checkpoint ('{missing}')" in error_message(make_trainer(ball.clean, steps=20), saved)


@pytest.mark.parametrize(
    "metadata", [{"step": "ten"}, {"seconds": ""}, {"config": "{"}, {"config": "[]"}, {"spec": "null"}]
)
def test_invalid_metadata_is_rejected(
    saved: Path, ball: Any, make_trainer: MakeTrainer, metadata: dict[str, str]
) -> None:
    rewrite(FILE, saved, **metadata)
    assert "corrupt checkpoint" in error_message(make_trainer(ball.clean, steps=20), saved)


def test_tensor_with_another_shape_is_rejected(saved: Path, ball: Any, make_trainer: MakeTrainer) -> None:
    rewrite(FILE, saved, {"field.appearance_codes": torch.zeros(3, 7)})
    assert "corrupt checkpoint" in error_message(make_trainer(ball.clean, steps=20), saved)


def test_non_finite_tensor_is_rejected(saved: Path, ball: Any, make_trainer: MakeTrainer) -> None:
    rewrite(FILE, saved, {"field.appearance_codes": torch.full((13, 4), float("nan"))})
    assert "corrupt checkpoint" in error_message(make_trainer(ball.clean, steps=20), saved)
