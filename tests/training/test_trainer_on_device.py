"""The GPU version of the training loop, run on the CPU, and on the meta device, where synchronization fails."""

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
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.schedule import schedule_at
from blocknerf.training.trainer import NO_GRAPHS_WITH_TRIM, POSE_STEP_OPS, Trainer

MakeTrainer = Callable[..., Trainer]
Score = Callable[[Trainer, Capture], float]


def on_device(trainer: Trainer, device: str = "cpu") -> Trainer:
    """Return a trainer of the same training with fixed shapes."""
    config, sampler = trainer.config, trainer.pixels
    pixels = PixelSampler(
        sampler.capture, sampler.frames, downscale=1, budget_bytes=config.image_cache_bytes, seed=config.seed,
        use_depth=sampler.has_depth, device=device, fixed_shapes=True,
    )  # fmt: skip
    return Trainer(trainer.field.to(device), pixels, trainer.exposures.to(device), config)


def advance(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.train_step()
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.field.named_parameters()}


def in_two_segments(capture: Capture) -> Capture:
    frames = (dataclasses.replace(frame, segment=f"segment{i % 2}") for i, frame in enumerate(capture.frames))
    return dataclasses.replace(capture, frames=tuple(frames))


@pytest.fixture
def full_capture(ball: Any, tmp_path: Path) -> Capture:
    """A capture with two segments, masks of moving objects and of the sky, and points on the ball."""
    for name in ("images", "masks"):
        (tmp_path / name).symlink_to(ball.masked.image_dir / name, target_is_directory=True)
    directions = np.random.default_rng(0).normal(size=(500, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    frames = tuple(dataclasses.replace(frame, sky_mask=frame.mask) for frame in ball.masked.frames)
    capture = dataclasses.replace(ball.masked, image_dir=tmp_path, frames=frames, sparse_points="points.ply")
    return in_two_segments(capture)


def test_psnr_matches_the_cpu_version(
    ball: Any, make_trainer: MakeTrainer, score: Score, trained_masked: Trainer
) -> None:
    trained = advance(on_device(make_trainer(ball.masked, steps=150)), 150)
    scores = [score(trainer, ball.clean) for trainer in (trained_masked, trained)]
    print(f"held-out PSNR: {scores[0]:.1f} dB with the CPU version, {scores[1]:.1f} dB with the GPU version")
    assert abs(scores[0] - scores[1]) < 1.5


def test_resumed_training_is_bitwise_equal(tmp_path: Path, ball: Any, make_trainer: MakeTrainer) -> None:
    capture, path = in_two_segments(ball.clean), tmp_path / "state.safetensors"
    uninterrupted, stopped, resumed = (
        on_device(make_trainer(capture, steps=20, pose_refinement=True, seed=3)) for _ in range(3)
    )
    save_state(advance(stopped, 10), path, seconds=1.0)
    restore_state(resumed, path)
    expected, actual = weights(advance(uninterrupted, 20)), weights(advance(resumed, 10))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert torch.equal(uninterrupted.pixels.cameras.camera_to_world, resumed.pixels.cameras.camera_to_world)
    assert not torch.equal(
        uninterrupted.pixels.cameras.camera_to_world, uninterrupted.pixels.input_cameras.camera_to_world
    )


def test_checkpoint_moves_between_devices(tmp_path: Path, ball: Any, make_trainer: MakeTrainer) -> None:
    path, capture = tmp_path / "state.safetensors", in_two_segments(ball.clean)
    options: dict[str, Any] = {"steps": 20, "robust_trim": 0.3, "pose_refinement": True}
    save_state(advance(on_device(make_trainer(capture, **options)), 5), path, seconds=1.0)
    cpu = make_trainer(capture, **options)
    assert restore_state(cpu, path) == 1.0
    save_state(advance(cpu, 1), path, seconds=2.0)
    device = on_device(make_trainer(capture, **options))
    restore_state(device, path)
    assert device.step == 6
    assert all(torch.equal(value, weights(cpu)[name]) for name, value in weights(device).items())
    advance(device, 1)


@pytest.mark.parametrize("options", [{}, {"pose_refinement": True}, {"robust_trim": 0.3}])
@pytest.mark.parametrize("version", [lambda trainer: trainer, on_device])
def test_tensors_are_created_on_the_device_of_the_field(
    full_capture: Capture, make_trainer: MakeTrainer, version: Callable[[Trainer], Trainer], options: dict[str, Any]
) -> None:
    trainer = version(make_trainer(full_capture, steps=10, **options))
    with torch.device("meta"):
        advance(trainer, 2)
    assert all(value.isfinite().all() for value in trainer.field.parameters())
    assert trainer.monitor.last.isfinite().all()


@pytest.mark.parametrize("step", [0, 3])
def test_step_does_not_synchronize(
    full_capture: Capture, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A synchronization would be slow on a GPU and cannot be captured in a graph."""
    updated: list[int] = []
    # The PyTorch implementation would synchronize; the GPU kernel does not.
    monkeypatch.setattr(optimizer_module, "adam_step", lambda value, *_, **__: updated.append(value.numel()))
    cpu = make_trainer(full_capture, steps=10)
    sampler, field = cpu.pixels, BlockField(cpu.field.spec).to("meta")
    pixels = PixelSampler(
        sampler.capture, sampler.frames, downscale=1, budget_bytes=1 << 24, seed=0, use_depth=True, device="meta"
    )
    trainer = Trainer(field, pixels, cpu.exposures.to("meta"), cpu.config)
    trainer.step = step
    trainer.train_step()
    sizes = {name: value.numel() for name, value in field.named_parameters()}
    separate = {name for name in sizes if name == "appearance_codes" or name.endswith("table")}
    *separate_sizes, flat_size = updated
    assert sorted(separate_sizes) == sorted(sizes[name] for name in separate if step == 0 or "proposals" not in name)
    assert flat_size >= sum(sizes[name] for name in sizes.keys() - separate)


def test_non_finite_loss_is_reported_by_check(
    ball: Any, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer = advance(on_device(make_trainer(ball.clean, steps=20)), 2)
    check = trainer.monitor.check
    monkeypatch.setattr(trainer.monitor, "check", lambda: None)  # as on a GPU
    trainer.check()
    trainer.exposures[:] = float("nan")
    advance(trainer, 3)
    monkeypatch.setattr(trainer.monitor, "check", check)
    for call in (trainer.check, lambda: save_state(trainer, tmp_path / "state.safetensors", seconds=0.0)):
        with pytest.raises(TrainingError, match="loss is nan at step 2; the last good checkpoint is kept"):
            call()
    assert not list(tmp_path.iterdir())


def test_cuda_graphs_need_a_gpu(ball: Any, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ball.clean, steps=20)
    with pytest.raises(BackendError, match="CUDA graphs are not available on cpu; omit cuda_graphs"):
        Trainer(trainer.field, trainer.pixels, trainer.exposures, trainer.config, cuda_graphs=True)


@pytest.mark.parametrize(
    ("options", "replay"),
    [
        ({}, (True, "all steps")),
        ({"pose_refinement": True}, (True, "all steps except those that update poses")),
        ({"robust_trim": 0.3}, (False, NO_GRAPHS_WITH_TRIM)),
    ],
)
def test_replay_explains_which_steps_are_captured(
    ball: Any, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], replay: Any
) -> None:
    trainer = make_trainer(in_two_segments(ball.clean), steps=20, **options)
    assert trainer.replay == (False, "CUDA graphs need a GPU")
    trainer._graphed = object()  # as on a GPU
    assert trainer.replay == replay
    monkeypatch.setattr("blocknerf.training.trainer._check_devices", lambda *_: None)
    if options.get("robust_trim"):
        with pytest.raises(BackendError, match=r"no CUDA graphs with robust_trim 0\.3: robust_trim needs the errors"):
            Trainer(trainer.field, trainer.pixels, trainer.exposures, trainer.config, cuda_graphs=True)


@pytest.mark.parametrize("updates_poses", [True, False])
def test_pose_steps_use_torch_operations(
    ball: Any, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, updates_poses: bool
) -> None:
    original, torch_operations = backends._resolve_backend, set()

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        torch_operations.update([operation] if backend == "torch" else [])
        return original(operation, backend, device, dtype)

    monkeypatch.setattr(backends, "_resolve_backend", choose)
    trainer = make_trainer(in_two_segments(ball.clean), steps=20, pose_refinement=updates_poses)
    trainer.train_step()
    assert trainer.updates_poses is updates_poses
    assert torch_operations == (set(POSE_STEP_OPS) if updates_poses else set())


def test_half_tables_follow_their_tables(ball: Any, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(ball.clean, steps=20)
    for network in (trainer.field.base, trainer.field.proposals[0]):
        network.half_table = torch.zeros_like(network.table, dtype=torch.float16)
    optimizer = optimizer_module.FieldOptimizer(trainer.field)
    assert set(optimizer.half_tables) == {"base.table", "proposals.0.table"}
    assert torch.equal(trainer.field.base.half_table, trainer.field.base.table.detach().half())
    has_half: list[bool] = []

    def record(*_: Any, half_copy: torch.Tensor | None, **__: Any) -> None:
        has_half.append(half_copy is not None)

    monkeypatch.setattr(optimizer_module, "adam_step", record)
    for value in optimizer.parameters.values():
        value.grad = torch.ones_like(value)
    optimizer.step(schedule_at(0, trainer.config))
    assert sum(has_half) == 2
    with torch.no_grad():
        trainer.field.base.table.fill_(0.5)
    optimizer.restore(optimizer.state())
    assert (trainer.field.base.half_table == 0.5).all()
