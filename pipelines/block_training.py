"""One block's training in a run folder: resuming, checkpoints, log, progress, and the finished files."""

import platform
import resource
import shutil
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from blocknerf import __version__
from blocknerf.capture.capture import Capture
from blocknerf.capture.pose_corrections import write_corrections
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_training_frames
from blocknerf.errors import TrainingError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import save_field
from blocknerf.fields.occupancy import save_occupancy
from blocknerf.fields.occupancy_extraction import extract_occupancy
from blocknerf.files import format_json, write_atomic
from blocknerf.kernels.backends import OPERATIONS, explain
from blocknerf.kernels.devices import device_name
from blocknerf.training.block_spec import spec_for_block
from blocknerf.training.checkpoint import restore_state, save_state
from blocknerf.training.config import TrainConfig
from blocknerf.training.device_pixel_sampler import DevicePixelSampler
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.trainer import MOVING, StepMetrics, Trainer
from pipelines.console import format_duration, log
from pipelines.training_log import LogLine, log_digest, read_log

RECORD_FORMAT = "blocknerf.training-record/2"
LOG_EVERY = 20
"""Steps between lines of the log."""
CHECKPOINT_SECONDS = 30.0
LOG_SECONDS = 20.0
"""Between lines on the terminal's stand-in, a file or a pipe."""
PREVIEW_SECONDS = 15.0
"""How often what is trained so far is written for who looks on."""


class BlockTraining:
    """One block's training, from its last checkpoint to its finished files."""

    def __init__(
        self,
        folder: RunFolder,
        city: City,
        capture: Capture,
        name: str,
        choices: dict[str, Any],
        device: torch.device,
        view: bool,
    ) -> None:
        self.folder, self.city, self.name, self.device, self.view = folder, city, name, device, view
        self.state = folder.checkpoint(name) / "state.safetensors"
        self.capture, member = block_training_frames(folder, name, capture)
        self.frames = member.frames
        lenses = [self.capture.frames[index].intrinsics for index in self.frames]
        pixels = sum(lens.width * lens.height for lens in lenses) // choices["downscale"] ** 2
        self.config = TrainConfig.preset(city.preset, pixels=pixels, **choices)
        self.seconds = 0.0

    def run(self) -> None:
        """Train to the end, resuming where a checkpoint lies, and publish."""
        trainer = self._trainer()
        if self.state.exists():
            self.seconds = restore_state(trainer, self.state)
            log(f"{self.name}: resuming at step {trainer.step} of {self.config.total_steps}")
        used, reason = trainer.replay
        if self.device.type != "cpu" and not used:
            log(f"{self.name}: warning: steps run kernel by kernel and not from CUDA graphs: {reason}")
        rows = _Log(self.folder.log(self.name), trainer.step)
        try:
            self._loop(trainer, rows)
            save_state(trainer, self.state, seconds=self.seconds)
        except TrainingError as error:
            raise TrainingError(f"block {self.name}: {error}") from None
        self._publish(trainer, rows.mean_psnr())

    def _trainer(self) -> Trainer:
        torch.manual_seed(self.config.seed)
        spec = spec_for_block(self.capture, self.city.block(self.name), self.frames, self.city.preset)
        # Made on the processor, so that a block begins alike on every device.
        field = BlockField(spec).to(self.device)
        exposures = [self.capture.frames[index].exposure or spec.exposure_reference for index in self.frames]
        return Trainer(field, self._pixels(), torch.tensor(exposures, device=self.device), self.config)

    def _pixels(self) -> PixelSampler | DevicePixelSampler:
        draw = PixelSampler if self.device.type == "cpu" else partial(DevicePixelSampler, device=self.device)
        return draw(
            self.capture,
            self.frames,
            downscale=self.config.downscale,
            budget_bytes=self.config.image_cache_bytes,
            seed=self.config.seed,
            use_depth=True,
        )

    def _loop(self, trainer: Trainer, log: "_Log") -> None:
        started = saved = previewed = time.monotonic()
        before = self.seconds
        meter = _ProgressBar(self.name, self.config, trainer.step)
        with meter.bar:
            while trainer.step < self.config.total_steps:
                report = trainer.train_step()
                now = time.monotonic()
                self.seconds = before + now - started
                if trainer.step % LOG_EVERY == 0 or trainer.step == self.config.total_steps:
                    trainer.check()
                    meter.show(report, log.write(report, self.seconds, self.config.rays_per_step))
                if now - saved > CHECKPOINT_SECONDS:
                    save_state(trainer, self.state, seconds=self.seconds)
                    saved = time.monotonic()
                if self.view and now - previewed > PREVIEW_SECONDS:
                    self._save(trainer, self.folder.preview(self.name))
                    previewed = time.monotonic()

    def _publish(self, trainer: Trainer, psnr: float | None) -> None:
        """Write the finished files, the field last: when it is there, the block is done."""
        started, field = time.monotonic(), trainer.field
        if trainer.poses is not None:
            found = trainer.poses.corrections(self.config.pose_segment_length)
            write_corrections(found, self.folder.pose_corrections(self.name), block=self.name)
        else:
            # Those of an earlier training would move cameras of this field.
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
        self._save(trainer, self.folder.field(self.name))
        shutil.rmtree(self.folder.checkpoint(self.name), ignore_errors=True)
        score = "" if psnr is None else f", training PSNR {psnr:.1f} dB"
        took = f"{self.config.total_steps} steps in {format_duration(self.seconds)} ({rate:,.0f} rays/s)"
        log(f"{self.name}: {len(self.frames)} frames, {took}{score}")

    def _save(self, trainer: Trainer, path: Path) -> None:
        save_field(trainer.field, path, step=trainer.step, city=self.city.digest)


class _Log:
    """`log.jsonl`: one line of figures every few steps, cut back to the checkpoint on resuming."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.lines = [line for line in read_log(path) if line.step <= step]
        write_atomic(path, "".join(line.text for line in self.lines))

    def write(self, report: StepMetrics, seconds: float, rays: int) -> float:
        """Append a line, and give the rays a second since the line before."""
        step, since = (self.lines[-1].step, self.lines[-1].seconds) if self.lines else (0, 0.0)
        rate = (report.step - step) * rays / max(seconds - since, 1e-9)
        line = LogLine(
            step=report.step,
            loss=report.loss,
            psnr=report.psnr,
            rays_per_second=round(rate, 1),
            seconds=round(seconds, 3),
        )
        self.lines.append(line)
        with self.path.open("a") as stream:
            stream.write(line.text)
        return rate

    def mean_psnr(self) -> float | None:
        """Training PSNR over the last tenth of the log; None where there is no log."""
        tail = self.lines[-max(1, len(self.lines) // 10) :]
        return round(sum(line.psnr for line in tail) / len(tail), 3) if tail else None


class _ProgressBar:
    """Rays a second, loss, PSNR and time left: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, name: str, config: TrainConfig, step: int) -> None:
        self.name, self.config, self.last_print = name, config, time.monotonic()
        console = Console()
        figures = TextColumn("{task.fields[figures]}")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), figures, TimeRemainingColumn()
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=config.total_steps, completed=step, figures="")

    def show(self, report: StepMetrics, rate: float) -> None:
        """Show the figures of a step."""
        figures = f"{rate:,.0f} rays/s, loss {report.loss:.4f}, PSNR {report.psnr:.1f} dB"
        self.bar.update(self.task, completed=report.step, figures=figures)
        if self.bar.disable and time.monotonic() - self.last_print > LOG_SECONDS:
            self.last_print = time.monotonic()
            left = format_duration((self.config.total_steps - report.step) * self.config.rays_per_step / rate)
            log(f"{self.name}: step {report.step} of {self.config.total_steps}, {figures}, {left} left")


def _backends(field: BlockField, device: torch.device, moves: bool) -> dict[str, dict[str, str]]:
    """The kernels that ran for a field, and why those."""
    found = {}
    for name in OPERATIONS:
        taken = explain(name, device, field.unfit.get(name, {}))
        poses = "; 'torch' in steps that move poses" if moves and name in MOVING else ""
        found[name] = {"backend": taken.backend, "reason": taken.reason + poses}
    return found


def _peak_bytes() -> int:
    """The most memory the process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
