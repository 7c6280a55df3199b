"""Training of one block in a run folder: resuming, checkpoints, log, progress and output files."""

import platform
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from blocknerf import __version__
from blocknerf.capture.pose_corrections import write_corrections
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_capture_with_images
from blocknerf.errors import TrainingError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import save_field
from blocknerf.fields.footprint_floor import training_floor
from blocknerf.fields.occupancy import extract_occupancy, save_occupancy
from blocknerf.files import format_json, write_atomic
from blocknerf.kernels.backends import OPERATIONS, explain
from blocknerf.kernels.devices import device_name
from blocknerf.training.checkpoint import restore_state, save_state
from blocknerf.training.config import TrainConfig
from blocknerf.training.setup import make_config, make_trainer
from blocknerf.training.trainer import POSE_STEP_OPS, StepMetrics, Trainer
from pipelines.console import format_duration, log
from pipelines.training_log import LogLine, log_digest, read_log

RECORD_FORMAT = "blocknerf.training-record/2"
LOG_EVERY = 20
"""Steps between lines of the log."""
CHECKPOINT_SECONDS = 30.0
LOG_SECONDS = 20.0
"""Time between progress lines if the output is a file or a pipe."""
PREVIEW_SECONDS = 15.0
"""Time between previews for the viewer."""


class BlockTraining:
    """Training of one block, from its last checkpoint to its output files."""

    def __init__(
        self,
        folder: RunFolder,
        city: City,
        name: str,
        choices: dict[str, Any],
        field: Mapping[str, int | float],
        device: torch.device,
        view: bool,
    ) -> None:
        self.folder, self.city, self.name, self.device, self.view = folder, city, name, device, view
        self.state = folder.checkpoint(name) / "state.safetensors"
        self.capture = block_capture_with_images(folder, name)
        self.frames = range(len(self.capture))
        self.config = make_config(self.capture, self.frames, city.preset, **choices)
        self._field = field
        self.seconds = 0.0

    def run(self) -> None:
        """Train to the end, from the checkpoint if there is one, and write the output files."""
        trainer = self._trainer()
        if self.state.exists():
            self.seconds = restore_state(trainer, self.state)
            log(f"{self.name}: resuming at step {trainer.step} of {self.config.total_steps}")
        used, reason = trainer.replay
        if self.device.type != "cpu" and not used:
            log(f"{self.name}: warning: CUDA graphs are not used: {reason}")
        rows = _Log(self.folder.log(self.name), trainer.step)
        try:
            self._loop(trainer, rows)
            save_state(trainer, self.state, seconds=self.seconds)
        except TrainingError as error:
            raise TrainingError(f"block {self.name}: {error}") from None
        self._publish(trainer, rows.mean_psnr())

    def _trainer(self) -> Trainer:
        block = self.city.block(self.name)
        return make_trainer(
            self.capture,
            block,
            self.frames,
            preset=self.city.preset,
            config=self.config,
            field=self._field,
            device=self.device,
        )

    def _loop(self, trainer: Trainer, log: "_Log") -> None:
        started = saved = previewed = time.monotonic()
        before = self.seconds
        progress_bar = _ProgressBar(self.name, self.config, trainer.step)
        with progress_bar.bar:
            while trainer.step < self.config.total_steps:
                step_metrics = trainer.train_step()
                now = time.monotonic()
                self.seconds = before + now - started
                if trainer.step % LOG_EVERY == 0 or trainer.step == self.config.total_steps:
                    trainer.check()
                    progress_bar.show(step_metrics, log.write(step_metrics, self.seconds, self.config.rays_per_step))
                if now - saved > CHECKPOINT_SECONDS:
                    save_state(trainer, self.state, seconds=self.seconds)
                    saved = time.monotonic()
                if self.view and now - previewed > PREVIEW_SECONDS:
                    self._save(trainer, self.folder.preview(self.name))
                    previewed = time.monotonic()

    def _publish(self, trainer: Trainer, psnr: float | None) -> None:
        """Write the output files. The field is last: when it exists, the block is finished."""
        started, field = time.monotonic(), trainer.field
        if trainer.poses is not None:
            corrections = trainer.poses.corrections(self.config.pose_segment_length)
            write_corrections(corrections, self.folder.pose_corrections(self.name), block=self.name)
        else:
            # Corrections of an earlier training do not belong to this field.
            self.folder.pose_corrections(self.name).unlink(missing_ok=True)
        occupancy = extract_occupancy(field)
        save_occupancy(occupancy, self.folder.occupancy(self.name))
        rate = self.config.total_steps * self.config.rays_per_step / max(self.seconds, 1e-9)
        record = {
            "format": RECORD_FORMAT,
            "block": self.name,
            "config": asdict(self.config),
            "frames": len(self.frames),
            "log_sha256": log_digest(self.folder.log(self.name)),
            "psnr": psnr,
            "seconds": round(self.seconds, 3),
            "rays_per_second": round(rate, 1),
            "occupancy": {
                "occupied_fraction": occupancy.occupied_fraction,
                "seconds": round(time.monotonic() - started, 3),
            },
            "peak_memory": _peak_bytes(),
            "device": device_name(self.device),
            "deterministic": self.device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
            "backends": _backends(field, self.device, trainer.updates_poses),
            "cuda_graphs": dict(zip(("used", "reason"), trainer.replay, strict=True)),
            "versions": {"blocknerf": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        write_atomic(self.folder.train_summary(self.name), format_json(record))
        field.footprint_floor = training_floor(field.spec, trainer.pixels.cameras)
        self._save(trainer, self.folder.field(self.name))
        shutil.rmtree(self.folder.checkpoint(self.name), ignore_errors=True)
        quality = "" if psnr is None else f", training PSNR {psnr:.1f} dB"
        speed = f"{self.config.total_steps} steps in {format_duration(self.seconds)} ({rate:,.0f} rays/s)"
        log(f"{self.name}: {len(self.frames)} images, {speed}{quality}")

    def _save(self, trainer: Trainer, path: Path) -> None:
        save_field(trainer.field, path, step=trainer.step, city=self.city.digest)


class _Log:
    """`log.jsonl`: one line every `LOG_EVERY` steps; cut back to the checkpoint on resuming."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.lines = [line for line in read_log(path) if line.step <= step]
        write_atomic(path, "".join(line.text for line in self.lines))

    def write(self, step_metrics: StepMetrics, seconds: float, rays: int) -> float:
        """Append a line, and return the rays/s since the previous line."""
        previous_step, start = (self.lines[-1].step, self.lines[-1].seconds) if self.lines else (0, 0.0)
        rate = (step_metrics.step - previous_step) * rays / max(seconds - start, 1e-9)
        line = LogLine(
            step=step_metrics.step,
            loss=step_metrics.loss,
            psnr=step_metrics.psnr,
            rays_per_second=round(rate, 1),
            seconds=round(seconds, 3),
        )
        self.lines.append(line)
        with self.path.open("a") as stream:
            stream.write(line.text)
        return rate

    def mean_psnr(self) -> float | None:
        """Return the mean training PSNR over the last tenth of the log; None if the log is empty."""
        tail = self.lines[-max(1, len(self.lines) // 10) :]
        return round(sum(line.psnr for line in tail) / len(tail), 3) if tail else None


class _ProgressBar:
    """Rays/s, loss, PSNR and time left: a progress bar on a terminal, otherwise a line every `LOG_SECONDS`."""

    def __init__(self, name: str, config: TrainConfig, step: int) -> None:
        self.name, self.config, self.last_print = name, config, time.monotonic()
        console = Console()
        metrics = TextColumn("{task.fields[metrics]}")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), metrics, TimeRemainingColumn()
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=config.total_steps, completed=step, metrics="")

    def show(self, step_metrics: StepMetrics, rate: float) -> None:
        """Show the metrics of a step."""
        metrics = f"{rate:,.0f} rays/s, loss {step_metrics.loss:.4f}, PSNR {step_metrics.psnr:.1f} dB"
        self.bar.update(self.task, completed=step_metrics.step, metrics=metrics)
        if self.bar.disable and time.monotonic() - self.last_print > LOG_SECONDS:
            self.last_print = time.monotonic()
            left = format_duration((self.config.total_steps - step_metrics.step) * self.config.rays_per_step / rate)
            log(f"{self.name}: step {step_metrics.step} of {self.config.total_steps}, {metrics}, {left} left")


def _backends(field: BlockField, device: torch.device, updates_poses: bool) -> dict[str, dict[str, str]]:
    """Return the backend of each operation for a field, and the reason."""
    backends = {}
    for name in OPERATIONS:
        choice = explain(name, device, field.unfit.get(name, {}))
        poses = "; 'torch' in steps that update poses" if updates_poses and name in POSE_STEP_OPS else ""
        backends[name] = {"backend": choice.backend, "reason": choice.reason + poses}
    return backends


def _peak_bytes() -> int:
    """Return the peak memory of the process in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
