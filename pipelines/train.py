"""The training job: one block at a time, each as if it were alone."""

import json
import platform
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from blocknerf import __version__
from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.manifest import City, RunFolder, read_city
from blocknerf.errors import TrainingError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import save_field
from blocknerf.files import format_json, write_atomic
from blocknerf.kernels.threads import use_threads
from blocknerf.partition.membership import Membership, read_membership
from blocknerf.training.block_spec import default_downscale, spec_for_block
from blocknerf.training.checkpoint import restore_state, save_state
from blocknerf.training.config import TrainConfig
from blocknerf.training.pixels import PixelSource
from blocknerf.training.trainer import StepReport, Trainer

LOG_EVERY = 25
"""Steps between lines of the log."""
CHECKPOINT_SECONDS = 30.0
RESERVED_BYTES = 5 << 29
"""Share of the memory budget that the interpreter, the kernels and one step need, measured on a draft block."""
SMALLEST_SIDE = 8
"""Pixels that a photograph asked to be shrunk must keep, either way."""


def train(
    run: Path,
    *,
    block: str | None = None,
    steps: int | None = None,
    downscale: int | None = None,
    memory: float = 4.0,
    threads: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Train the blocks of a run that are not trained yet, and give their names.

    Args:
        run: Run folder, partitioned.
        block: Train only this block.
        steps: Optimization steps a block; by default the preset's.
        downscale: Reduce photographs by this factor; by default the preset's image size decides.
        memory: Memory budget of the process in GiB.
        threads: Processor threads; by default every core.
        seed: Source of every random choice.

    Raises:
        TrainingError: An option is out of range, or training had to stop.
        RunError: The folder is not partitioned, or a file of it is broken.
    """
    folder = RunFolder(run)
    city, capture = read_city(folder.city), read_capture(folder.capture)
    _check_options(capture, steps, downscale, threads)
    use_threads(threads)
    names = [city.block(block).name] if block else [each.name for each in city.blocks]
    todo = [name for name in names if not folder.field(name).exists()]
    budget = int(memory * (1 << 30)) - RESERVED_BYTES
    if budget <= 0:
        raise TrainingError(
            f"--memory {memory} leaves nothing for photographs; give at least {RESERVED_BYTES / 2**30 + 0.5}"
        )
    for name in names:
        if name not in todo:
            print(f"{name}: trained already")
    for name in todo:
        config = TrainConfig.preset(
            city.preset,
            steps=steps,
            downscale=downscale or default_downscale(capture, city.preset),
            memory=budget,
            seed=seed,
        )
        _BlockJob(folder, city, capture, name, config).run()
    return todo


def _check_options(capture: Capture, steps: int | None, downscale: int | None, threads: int | None) -> None:
    for name, value in (("steps", steps), ("downscale", downscale), ("threads", threads)):
        if value is not None and value < 1:
            raise TrainingError(f"--{name} {value} is not positive; give a whole number of at least 1")
    smallest = min(min(frame.intrinsics.width, frame.intrinsics.height) for frame in capture.frames)
    if downscale is not None and smallest // downscale < SMALLEST_SIDE:
        most = max(1, smallest // SMALLEST_SIDE)
        raise TrainingError(f"--downscale {downscale} leaves too little of the photographs; give at most {most}")


class _BlockJob:
    """One block's training, from its last checkpoint to its finished files."""

    def __init__(self, folder: RunFolder, city: City, capture: Capture, name: str, config: TrainConfig) -> None:
        self.folder, self.city, self.capture, self.name, self.config = folder, city, capture, name, config
        self.state = folder.checkpoint(name) / "state.safetensors"
        members: Membership = read_membership(folder.frames(name), capture)
        self.frames = members.frames
        self.seconds = 0.0

    def run(self) -> None:
        """Train to the end, resuming where a checkpoint lies, and publish."""
        trainer = self._trainer()
        if self.state.exists():
            self.seconds = restore_state(trainer, self.state)
            print(f"{self.name}: resuming at step {trainer.step} of {self.config.steps}")
        log = _Log(self.folder.log(self.name), trainer.step)
        report = self._loop(trainer, log)
        self._publish(trainer, report, log)

    def _trainer(self) -> Trainer:
        torch.manual_seed(self.config.seed)
        spec = spec_for_block(self.capture, self.city.block(self.name), self.frames, self.city.preset)
        pixels = PixelSource(
            self.capture,
            self.frames,
            downscale=self.config.downscale,
            budget_bytes=self.config.memory,
            seed=self.config.seed,
            use_depth=True,
        )
        exposures = [self.capture.frames[index].exposure or spec.exposure_reference for index in self.frames]
        return Trainer(BlockField(spec), pixels, torch.tensor(exposures), self.config)

    def _loop(self, trainer: Trainer, log: "_Log") -> StepReport | None:
        report, started, saved, before = None, time.monotonic(), time.monotonic(), self.seconds
        with _progress() as progress:
            task = progress.add_task(self.name, total=self.config.steps, completed=trainer.step, rate="", score="")
            while trainer.step < self.config.steps:
                report = trainer.advance()
                now = time.monotonic()
                self.seconds = before + now - started
                if trainer.step % LOG_EVERY == 0 or trainer.step == self.config.steps:
                    line = log.write(report, self.seconds, self.config.rays)
                    score = f"loss {report.loss:.4f}  PSNR {report.psnr:.1f} dB"
                    progress.update(task, completed=trainer.step, rate=f"{line:,.0f} rays/s", score=score)
                if now - saved > CHECKPOINT_SECONDS:
                    save_state(trainer, self.state, seconds=self.seconds)
                    saved = time.monotonic()
        return report

    def _publish(self, trainer: Trainer, report: StepReport | None, log: "_Log") -> None:
        save_state(trainer, self.state, seconds=self.seconds)
        record = {
            "format": "blocknerf.training-record/1",
            "block": self.name,
            "config": asdict(self.config),
            "frames": len(self.frames),
            "psnr": log.mean_psnr(),
            "seconds": round(self.seconds, 3),
            "rays_per_second": round(self.config.steps * self.config.rays / max(self.seconds, 1e-9), 1),
            "device": "cpu",
            "versions": {"blocknerf": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        write_atomic(self.folder.train_record(self.name), format_json(record))
        save_field(trainer.field, self.folder.field(self.name), step=trainer.step, city=self.city.digest)
        shutil.rmtree(self.folder.checkpoint(self.name), ignore_errors=True)
        print(
            f"{self.name}: {len(self.frames)} frames, {self.config.steps} steps in {self.seconds:.0f} s "
            f"({record['rays_per_second']:,.0f} rays/s), training PSNR {record['psnr']:.1f} dB"
        )


class _Log:
    """`log.jsonl`: one line of figures every few steps, cut back to the checkpoint on resuming."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.lines = [line for line in map(json.loads, lines) if line["step"] <= step]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def write(self, report: StepReport, seconds: float, rays: int) -> float:
        """Append a line, and give the rays a second since the line before."""
        last = self.lines[-1] if self.lines else {"step": 0, "seconds": 0.0}
        rate = (report.step - last["step"]) * rays / max(seconds - last["seconds"], 1e-9)
        line = {
            "step": report.step,
            "loss": report.loss,
            "psnr": report.psnr,
            "rays_per_second": round(rate, 1),
            "seconds": round(seconds, 3),
        }
        self.lines.append(line)
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return rate

    def mean_psnr(self) -> float:
        """Training PSNR over the last tenth of the log."""
        tail = self.lines[-max(1, len(self.lines) // 10) :]
        return round(sum(line["psnr"] for line in tail) / len(tail), 3)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}  {task.fields[score]}"),
        TimeRemainingColumn(),
    )
