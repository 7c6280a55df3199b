"""The training loop as it runs on a GPU, run here on the processor, and on no device at all, where nothing can be
looked at."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.errors import BackendError, TrainingError
from blocknerf.fields.block_field import BlockField
from blocknerf.kernels import backends
from blocknerf.training import optimizer as optimizer_module
from blocknerf.training.checkpoint import restore_state, save_state
from blocknerf.training.device_pixel_sampler import DevicePixelSampler
from blocknerf.training.schedule import schedule_at
from blocknerf.training.trainer import MOVING, TRIMMED, Trainer

MakeTrainer = Callable[..., Trainer]
Score = Callable[[Trainer, Capture], float]


def on_device(trainer: Trainer, device: str = "cpu") -> Trainer:
    """The same training by way of `DevicePixelSampler`."""
    config, source = trainer.config, trainer.pixels
    pixels = DevicePixelSampler(
        source.capture, source.frames, downscale=1, budget_bytes=config.image_cache_bytes, seed=config.seed,
        use_depth=source.has_depth, device=device,
    )  # fmt: skip
    return Trainer(trainer.field.to(device), pixels, trainer.exposures.to(device), config)


def advance(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.train_step()
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.field.named_parameters()}


def in_two_segments(capture: Capture) -> Capture:
    frames = (dataclasses.replace(frame, segment=f"drive{i % 2}") for i, frame in enumerate(capture.frames))
    return dataclasses.replace(capture, frames=tuple(frames))


@pytest.fixture
def everything(ball: Any, tmp_path: Path) -> Capture:
    """Two drives, masks of what moves and of the sky, and points on the ball."""
    for name in ("images", "masks"):
        (tmp_path / name).symlink_to(ball.masked.image_dir / name, target_is_directory=True)
    directions = np.random.default_rng(0).normal(size=(500, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    frames = tuple(dataclasses.replace(frame, sky_mask=frame.mask) for frame in ball.masked.frames)
    capture = dataclasses.replace(ball.masked, image_dir=tmp_path, frames=frames, sparse_points="points.ply")
    return in_two_segments(capture)


def test_it_learns_as_well(ball: Any, trainer_of: MakeTrainer, score: Score, trained_masked: Trainer) -> None:
    device = advance(on_device(trainer_of(ball.masked, steps=150)), 150)
    scores = [score(trainer, ball.clean) for trainer in (trained_masked, device)]
    print(f"held-out PSNR: {scores[0]:.1f} dB by the processor's way, {scores[1]:.1f} dB by a GPU's")
    assert abs(scores[0] - scores[1]) < 1.5


def test_a_resumed_training_is_the_same(tmp_path: Path, ball: Any, trainer_of: MakeTrainer) -> None:
    capture, path = in_two_segments(ball.clean), tmp_path / "state.safetensors"
    straight, stopped, resumed = (
        on_device(trainer_of(capture, steps=20, pose_refinement=True, seed=3)) for _ in range(3)
    )
    save_state(advance(stopped, 10), path, seconds=1.0)
    restore_state(resumed, path)
    first, again = weights(advance(straight, 20)), weights(advance(resumed, 10))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(straight.pixels.cameras.camera_to_world, resumed.pixels.cameras.camera_to_world)
    assert not torch.equal(straight.pixels.cameras.camera_to_world, straight.pixels.input_cameras.camera_to_world)


def test_a_checkpoint_goes_from_one_device_to_another(tmp_path: Path, ball: Any, trainer_of: MakeTrainer) -> None:
    path, capture = tmp_path / "state.safetensors", in_two_segments(ball.clean)
    choices: dict[str, Any] = {"steps": 20, "robust_trim": 0.3, "pose_refinement": True}
    save_state(advance(on_device(trainer_of(capture, **choices)), 5), path, seconds=1.0)
    plain = trainer_of(capture, **choices)
    assert restore_state(plain, path) == 1.0
    save_state(advance(plain, 1), path, seconds=2.0)
    back = on_device(trainer_of(capture, **choices))
    restore_state(back, path)
    assert back.step == 6
    assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(back).items())
    advance(back, 1)


@pytest.mark.parametrize("choices", [{}, {"pose_refinement": True}, {"robust_trim": 0.3}])
@pytest.mark.parametrize("way", [lambda trainer: trainer, on_device])
def test_all_is_made_where_the_field_lies(
    everything: Capture, trainer_of: MakeTrainer, way: Callable[[Trainer], Trainer], choices: dict[str, Any]
) -> None:
    trainer = way(trainer_of(everything, steps=10, **choices))
    with torch.device("meta"):
        advance(trainer, 2)
    assert all(value.isfinite().all() for value in trainer.field.parameters())
    assert trainer.monitor.last.isfinite().all()


@pytest.mark.parametrize("step", [0, 3])
def test_a_step_looks_at_nothing(
    everything: Capture, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """What a GPU holds would have to be waited for, and no graph could hold the waiting."""
    updated: list[int] = []
    # The reference asks for what the kernel of a GPU leaves there.
    monkeypatch.setattr(optimizer_module, "adam_step", lambda value, *_, **__: updated.append(value.numel()))
    made = trainer_of(everything, steps=10)
    source, field = made.pixels, BlockField(made.field.spec).to("meta")
    pixels = DevicePixelSampler(
        source.capture, source.frames, downscale=1, budget_bytes=1 << 24, seed=0, use_depth=True, device="meta"
    )
    away = Trainer(field, pixels, made.exposures.to("meta"), made.config)
    away.step = step
    away.train_step()
    sizes = {name: value.numel() for name, value in field.named_parameters()}
    large = {name for name in sizes if name == "codes" or name.endswith("table")}
    *alone, together = updated
    assert sorted(alone) == sorted(sizes[name] for name in large if step == 0 or "proposals" not in name)
    assert together >= sum(sizes[name] for name in sizes.keys() - large)


def test_a_loss_that_is_not_finite_is_found_when_it_is_asked_for(
    ball: Any, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = advance(on_device(trainer_of(ball.clean, steps=20)), 2)
    checked = trainer.monitor.check
    monkeypatch.setattr(trainer.monitor, "check", lambda: None)  # as on a GPU
    trainer.check()
    trainer.exposures[:] = float("nan")
    advance(trainer, 3)
    monkeypatch.setattr(trainer.monitor, "check", checked)
    for ask in (trainer.check, lambda: save_state(trainer, tmp_path / "state.safetensors", seconds=0.0)):
        with pytest.raises(TrainingError, match="loss is nan at step 2; the last good checkpoint is kept"):
            ask()
    assert not list(tmp_path.iterdir())


def test_steps_are_captured_on_a_gpu_alone(ball: Any, trainer_of: MakeTrainer) -> None:
    trainer = trainer_of(ball.clean, steps=20)
    with pytest.raises(BackendError, match="steps cannot be captured on cpu; leave captured out"):
        Trainer(trainer.field, trainer.pixels, trainer.exposures, trainer.config, captured=True)


@pytest.mark.parametrize(
    ("choices", "replay"),
    [
        ({}, (True, "all steps")),
        ({"pose_refinement": True}, (True, "all but those that move poses")),
        ({"robust_trim": 0.3}, (False, TRIMMED)),
    ],
)
def test_what_keeps_steps_from_being_captured_is_told(
    ball: Any, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any], replay: Any
) -> None:
    trainer = trainer_of(in_two_segments(ball.clean), steps=20, **choices)
    assert trainer.replay == (False, "CUDA graphs need a GPU")
    trainer._graphed = object()  # as on a GPU
    assert trainer.replay == replay
    monkeypatch.setattr("blocknerf.training.trainer._check_places", lambda *_: None)
    if choices.get("robust_trim"):
        with pytest.raises(BackendError, match=r"steps cannot be captured with trim 0\.3: a trimmed loss asks"):
            Trainer(trainer.field, trainer.pixels, trainer.exposures, trainer.config, captured=True)


@pytest.mark.parametrize("moves", [True, False])
def test_the_reference_is_asked_for_where_poses_move(
    ball: Any, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    chosen, asked = backends._chosen, set()

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        asked.update([operation] if backend == "torch" else [])
        return chosen(operation, backend, device, dtype)

    monkeypatch.setattr(backends, "_chosen", choose)
    trainer = trainer_of(in_two_segments(ball.clean), steps=20, pose_refinement=moves)
    trainer.train_step()
    assert trainer.updates_poses is moves
    assert asked == (set(MOVING) if moves else set())


def test_copies_in_half_precision_follow_their_tables(
    ball: Any, trainer_of: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(ball.clean, steps=20)
    for network in (trainer.field.base, trainer.field.proposals[0]):
        network.half_table = torch.zeros_like(network.table, dtype=torch.float16)
    optimizer = optimizer_module.FieldOptimizer(trainer.field)
    assert set(optimizer.half_tables) == {"base.table", "proposals.0.table"}
    assert torch.equal(trainer.field.base.half_table, trainer.field.base.table.detach().half())
    given: list[bool] = []
    monkeypatch.setattr(optimizer_module, "adam_step", lambda *_, half, **__: given.append(half is not None))
    for value in optimizer.parameters.values():
        value.grad = torch.ones_like(value)
    optimizer.step(schedule_at(0, trainer.config))
    assert sum(given) == 2
    with torch.no_grad():
        trainer.field.base.table.fill_(0.5)
    optimizer.restore(optimizer.state())
    assert (trainer.field.base.half_table == 0.5).all()
