"""The training job: its files, skipping, and resuming after a kill."""

import dataclasses
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.pose_corrections import read_corrections
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import write_block_frames
from blocknerf.errors import CheckpointError, OptionError, TrainingError
from blocknerf.fields.checkpoint import load_field, read_header
from blocknerf.fields.footprint_floor import training_floor
from blocknerf.fields.occupancy import load_occupancy
from blocknerf.kernels.backends import OPERATIONS
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import FrameAssignment, read_assignment
from blocknerf.training.pixel_sampler import PixelSampler
from pipelines import block_training as job
from pipelines import train as train_job
from pipelines.cli import main
from pipelines.train import train
from pipelines.training_log import read_lines
from tests.tiny import RAYS, shrink_draft
from tests.tree import tree

STEPS, SECONDS = 30, 1e-3
"""Seconds between checkpoints: after every step."""


def make_tiny(patch: Callable[[object, str, object], None]) -> None:
    """Make the draft preset small enough for a test, with frequent log lines and checkpoints."""
    shrink_draft(patch)
    patch(job, "CHECKPOINT_SECONDS", SECONDS)
    patch(job, "LOG_EVERY", 5)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny(monkeypatch.setattr)


def make_run(path: Path, capture: Capture) -> RunFolder:
    """A run of two blocks, partitioned."""
    folder = RunFolder(path)
    folder.path.mkdir()
    blocks = tuple(Block(name=f"b{i:03d}", origin=(4.0 + 9.0 * i, 2.0, 0.0), radius=6.0) for i in range(2))
    write_capture(capture, folder.capture)
    city = City(blocks=blocks, test_every=4)
    write_city(city, folder.city)
    for i, block in enumerate(blocks):
        frames = tuple(range(9 * i, 9 * i + 7))
        member = FrameAssignment(block=block.name, frames=frames, reasons=("position",) * len(frames))
        write_block_frames(folder, [member], capture, city)
    return folder


@pytest.fixture
def run(tmp_path: Path, balls_capture: Capture) -> RunFolder:
    return make_run(tmp_path / "run", balls_capture)


def weights(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as content:
        return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118


def same_weights(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, balls_capture: Capture) -> RunFolder:
    """The run, trained without an interruption."""
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        folder = make_run(tmp_path_factory.mktemp("trained") / "run", balls_capture)
        assert train(folder.path, steps=STEPS) == ["b000", "b001"]
    return folder


def test_a_finished_block_has_these_files(trained: RunFolder) -> None:
    for name in ("b000", "b001"):
        assert {path.name for path in trained.block_folder(name).iterdir()} == {
            "frames.json", "frames.table", "field.safetensors", "occupancy.safetensors", "train.json", "log.jsonl",
        }  # fmt: skip
    assert trained.trained_blocks() == ("b000", "b001")


def test_the_field_and_its_occupancy_can_be_loaded(trained: RunFolder) -> None:
    header, city = read_header(trained.field("b001")), read_city(trained.city)
    capture, member = read_capture(trained.capture), read_assignment(trained.frames("b001"))
    assert (header.step, header.city) == (STEPS, city.digest)
    assert header.spec.frames == tuple(capture.frames[index].name for index in member.frames)
    assert (header.spec.origin, header.spec.half_extent) == (city.blocks[1].origin, city.blocks[1].radius)
    field, grid = load_field(trained.field("b001")), load_occupancy(trained.occupancy("b001"))
    field.set_occupancy(grid)
    assert tuple(grid.binaries.shape) == (8, 8, 8)
    assert 0.0 < grid.occupied_fraction <= 1.0
    assert field.footprint_floor is not None
    floor = training_floor(field.spec, capture.cameras()[torch.tensor(member.frames)])
    torch.testing.assert_close(field.footprint_floor.min_std, floor.min_std, rtol=0.01, atol=0.0)


def test_the_record_describes_the_training(trained: RunFolder) -> None:
    record = json.loads(trained.train_summary("b000").read_text())
    assert record["format"] == "blocknerf.training-record/2"
    assert record["config"]["steps"] == STEPS
    assert record["config"]["downscale"] == 1
    assert record["frames"] == 7
    assert record["seconds"] > 0
    assert record["rays_per_second"] == pytest.approx(STEPS * RAYS / record["seconds"], rel=0.01)
    assert 0 < record["peak_memory"] < 1 << 34
    assert set(record["backends"]) == set(OPERATIONS)
    for choice in record["backends"].values():
        assert choice["backend"] in ("numba", "torch")
        assert choice["reason"]
    assert record["cuda_graphs"] == {"used": False, "reason": "CUDA graphs need a GPU"}
    assert set(record["versions"]) == {"blocknerf", "torch", "python"}
    # Training on the CPU is always deterministic.
    assert (record["device"], record["deterministic"]) == ("cpu", True)


def test_the_log_has_a_line_every_few_steps(trained: RunFolder) -> None:
    lines = [json.loads(line) for line in trained.log("b000").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(5, STEPS + 1, 5))
    assert all(line["loss"] > 0 and line["rays_per_second"] > 0 for line in lines)
    assert lines[-1]["psnr"] > lines[0]["psnr"]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_a_second_call_skips(trained: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(trained.path)
    assert train(trained.path, steps=STEPS) == []
    assert tree(trained.path) == before
    assert "skipping b001: " in capsys.readouterr().out


def test_training_one_block_leaves_the_others_unchanged(run: RunFolder, trained: RunFolder) -> None:
    before = tree(run.block_folder("b000"))
    assert train(run.path, block="b001", steps=STEPS) == ["b001"]
    assert tree(run.block_folder("b000")) == before
    assert run.trained_blocks() == ("b001",)
    assert same_weights(run.field("b001"), trained.field("b001"))


def test_training_does_not_change_files_of_other_jobs(trained: RunFolder, run: RunFolder) -> None:
    files = ("city.json", "blocks/b000/frames.json", "blocks/b001/frames.json")
    after, before = tree(trained.path), tree(run.path)
    assert all(after[name] == before[name] for name in files)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
import blocknerf.kernels.threads
import importlib.util
spec = importlib.util.spec_from_file_location("test_train", {test!r})
test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test)
test.make_tiny(setattr)
train_step = test.job.Trainer.train_step
# Leave time for the kill before the training ends.
test.job.Trainer.train_step = lambda trainer: test.time.sleep(0.1) or train_step(trainer)
test.train(Path({run!r}), block="b000", steps=test.STEPS)
"""


def start(run: RunFolder, repository: Path) -> subprocess.Popen[bytes]:
    """Train a block in another process."""
    script = KILLED.format(repository=str(repository), test=__file__, run=str(run.path))
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_after_first_checkpoint(process: subprocess.Popen[bytes], state: Path) -> None:
    while not state.exists():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_training_resumes_with_the_same_result(
    run: RunFolder, trained: RunFolder, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = run.checkpoint("b000") / "state.safetensors"
    kill_after_first_checkpoint(start(run, repository), state)
    assert not run.field("b000").exists()
    # Lines after the checkpoint; the last one is partial.
    with run.log("b000").open("a") as log:
        log.write('{"step": 25, "loss": 9.0, "psnr": 1.0, "rays_per_second": 1.0, "seconds": 9.0}\n{"step": 30, "lo')
    assert train(run.path, block="b000", steps=STEPS) == ["b000"]
    output = capsys.readouterr().out
    step = int(output.split("resuming at step ")[1].split()[0])
    assert 0 < step < STEPS
    assert same_weights(run.field("b000"), trained.field("b000"))
    lines = [json.loads(line) for line in run.log("b000").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(5, STEPS + 1, 5))
    assert not run.checkpoint("b000").exists()
    assert not list(run.path.rglob("*.part*"))


def test_a_kill_while_writing_the_files_loses_no_step(
    run: RunFolder, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "save_field", killed)
        with pytest.raises(KeyboardInterrupt):
            train(run.path, block="b000", steps=STEPS)
    assert run.trained_blocks() == ()
    monkeypatch.setattr(job.Trainer, "train_step", killed)
    assert train(run.path, block="b000", steps=STEPS) == ["b000"]
    assert same_weights(run.field("b000"), trained.field("b000"))


def fail_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the colors NaN at a step."""
    original = PixelSampler.batch

    def broken(self: Any, number: int, *options: Any) -> Any:
        batch = original(self, number, *options)
        return dataclasses.replace(batch, colors=batch.colors * float("nan")) if number == step else batch

    monkeypatch.setattr(PixelSampler, "batch", broken)


def test_a_nan_loss_names_block_and_step_and_keeps_the_checkpoint(
    run: RunFolder, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at(12, patch)
        with pytest.raises(
            TrainingError, match=r"^block b000: loss is nan at step 12; the last good checkpoint is kept"
        ):
            train(run.path, block="b000", steps=STEPS)
    assert run.trained_blocks() == ()
    train(run.path, block="b000", steps=STEPS)
    assert same_weights(run.field("b000"), trained.field("b000"))


def test_a_checkpoint_of_other_settings_is_refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(3, monkeypatch)
    with pytest.raises(TrainingError):
        train(run.path, block="b000", steps=STEPS)
    before = tree(run.path)
    with pytest.raises(
        CheckpointError, match="was trained with steps = 30, now 31; use the same settings, or delete it"
    ):
        train(run.path, block="b000", steps=STEPS + 1)
    assert tree(run.path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps 0 is out of range"),
        ({"downscale": 0}, "--downscale 0 is out of range"),
        ({"downscale": 9}, "--downscale 9 makes the images too small; use at most 3"),
        ({"threads": -1}, "--threads -1 is out of range"),
        ({"pose_segment_length": -1.0}, "--pose-segment-length -1 is out of range; give a number of at least 0"),
        ({"pose_segment_length": 3.0}, "--pose-segment-length needs --pose-refinement; add it"),
        ({"pose_restarts": 0}, "--pose-restarts 0 is out of range; give a whole number of at least 1"),
        ({"pose_restarts": 2}, "--pose-restarts needs --pose-refinement; add it"),
        ({"robust_trim": 1.0}, r"--robust-trim 1 is not in \[0, 1\)"),
        ({"robust_trim": -0.1}, r"--robust-trim -0.1 is not in \[0, 1\)"),
        ({"image_cache_gb": 0.0}, "--image-cache-gb 0 is out of range; give a number above 0"),
        ({"image_cache_gb": -1.0}, "--image-cache-gb -1 is out of range"),
        ({"image_cache_gb": math.nan}, "--image-cache-gb nan is out of range"),
        ({"image_cache_gb": math.inf}, "--image-cache-gb inf is out of range"),
    ],
)
def test_bad_options_are_refused(run: RunFolder, options: dict[str, Any], message: str) -> None:
    before = tree(run.path)
    with pytest.raises((OptionError, TrainingError), match=message):
        train(run.path, **options)
    assert tree(run.path) == before


def test_options_reach_the_training(run: RunFolder) -> None:
    train(run.path, block="b000", steps=2, downscale=2, image_cache_gb=0.75, seed=5)
    config = json.loads(run.train_summary("b000").read_text())["config"]
    assert (config["steps"], config["downscale"], config["seed"]) == (2, 2, 5)
    assert config["image_cache_bytes"] == 3 << 28


def split_segments(run: RunFolder) -> None:
    """Assign every other image to another segment."""
    capture = read_capture(run.capture)
    frames = (dataclasses.replace(frame, segment=f"drive{i % 2}") for i, frame in enumerate(capture.frames))
    capture, city = dataclasses.replace(capture, frames=tuple(frames)), read_city(run.city)
    write_block_frames(run, [read_assignment(run.frames(block.name)) for block in city.blocks], capture, city)


def test_refined_poses_are_saved_with_the_block(run: RunFolder) -> None:
    split_segments(run)
    train(run.path, block="b000", steps=STEPS, pose_refinement=True)
    result = read_corrections(run.pose_corrections("b000"))
    assert [(correction.pose_segment.segment, correction.frames) for correction in result.corrections] == [
        ("drive0", 4),
        ("drive1", 3),
    ]
    assert all(correction.motion.translation_norm > 0.0 for correction in result.corrections)
    assert result.segment_length == 0.0


def test_poses_of_a_single_segment_are_not_changed(run: RunFolder) -> None:
    train(run.path, block="b000", steps=2, pose_refinement=True)
    assert json.loads(run.train_summary("b000").read_text())["config"]["pose_restarts"] == 1
    (correction,) = read_corrections(run.pose_corrections("b000")).corrections
    assert (correction.frames, correction.motion.translation_norm, correction.motion.rotation_deg) == (7, 0.0, 0.0)


def test_training_without_refinement_removes_old_corrections(run: RunFolder) -> None:
    split_segments(run)
    train(run.path, block="b000", steps=2, pose_refinement=True)
    run.field("b000").unlink()
    train(run.path, block="b000", steps=2, pose_refinement=False)
    assert not run.pose_corrections("b000").exists(), "corrections of an earlier training"
    config = json.loads(run.train_summary("b000").read_text())["config"]
    assert (config["pose_refinement"], config["pose_segment_length"]) == (False, 0.0)


def test_pose_segments_are_refined(run: RunFolder) -> None:
    """The drive is 17 m long, and the block's images are from its first 6 m."""
    train(run.path, block="b000", steps=2, pose_refinement=True, pose_segment_length=3.0)
    result = read_corrections(run.pose_corrections("b000"))
    assert [(correction.pose_segment.number, correction.frames) for correction in result.corrections] == [
        (0, 3),
        (1, 3),
        (2, 1),
    ]
    assert result.segment_length == 3.0


def test_pose_restarts_repeat_the_training(run: RunFolder) -> None:
    split_segments(run)
    for name, length, restarts, expected in (("b000", 3.0, None, 3), ("b001", 0.0, 2, 2)):
        train(run.path, block=name, steps=3, pose_refinement=True, pose_segment_length=length, pose_restarts=restarts)
        assert json.loads(list(read_lines(run.log(name)))[-1])["step"] == 3 * expected
        assert json.loads(run.train_summary(name).read_text())["config"]["pose_restarts"] == expected


def test_progress_is_printed_without_a_terminal(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "LOG_SECONDS", 0.0)
    train(run.path, block="b000", steps=10)
    output = capsys.readouterr().out
    assert "b000: step 5 of 10, " in output
    for part in ("rays/s", "loss 0.", "PSNR ", " left"):
        assert part in output


def test_pixels_are_on_the_device_of_the_field(trained: RunFolder) -> None:
    city = read_city(trained.city)
    choices = {"steps": 4, "downscale": 1}
    for device in (torch.device("cpu"), torch.device("meta")):
        trainer = job.BlockTraining(trained, city, "b000", choices, {}, device, False)._trainer()
        assert trainer.pixels.fixed_shapes == (device.type != "cpu")
        assert trainer.device == trainer.exposures.device == trainer.pixels.cameras.centers.device == device


@pytest.mark.parametrize("name", ["train", "run", "match", "render", "evaluate", "update", "view", "backends"])
def test_a_missing_device_is_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    paths = {"run": [str(tmp_path), "--out", str(tmp_path / "out")], "backends": []}
    options = ["--block", "b000", "--capture", str(tmp_path)] if name == "update" else []
    assert main([name, *paths.get(name, [str(tmp_path)]), *options, "--device", "cuda"]) == 2
    assert "--device cuda: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_deterministic_is_an_option(trained: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(train_job, "set_deterministic", calls.append)
    for value in (True, False):
        train(trained.path, deterministic=value)
    assert calls == [True, False]
