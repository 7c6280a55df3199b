"""The training job: one block at a time, each as if it were alone."""

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
from blocknerf.capture.capture import Capture, read_capture
from blocknerf.capture.offsets import write_offsets
from blocknerf.city.manifest import City, RunFolder, read_city
from blocknerf.city.photographs import block_photographs
from blocknerf.errors import OptionError, TrainingError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import save_field
from blocknerf.fields.occupancy import save_occupancy
from blocknerf.fields.probing import extract_occupancy
from blocknerf.files import format_json, write_atomic
from blocknerf.kernels.backends import OPERATIONS, choose, explain
from blocknerf.kernels.devices import Device, device_name, resolve, set_deterministic
from blocknerf.kernels.threads import use_threads
from blocknerf.locks import LockedError, exclusive
from blocknerf.options import check_number, check_positive, check_whole
from blocknerf.processes import end_with
from blocknerf.training.block_spec import check_downscale, default_downscale, spec_for_block
from blocknerf.training.checkpoint import restore_state, save_state
from blocknerf.training.config import POSE_ROUNDS, TrainConfig
from blocknerf.training.device_pixels import DevicePixels
from blocknerf.training.pixels import PixelSource
from blocknerf.training.trainer import MOVING, StepReport, Trainer
from pipelines.apart import GIB, blocks_at_once, train_apart
from pipelines.job import duration, say
from pipelines.onlooker import shown
from pipelines.records import LogLine, read_log

RECORD_FORMAT = "blocknerf.training-record/1"
LOG_EVERY = 20
"""Steps between lines of the log."""
CHECKPOINT_SECONDS = 30.0
TELL_SECONDS = 20.0
"""Between lines on the terminal's stand-in, a file or a pipe."""
RESERVED_BYTES = 5 << 29
"""What a training takes besides the image cache: the interpreter, the kernels, the field and one step.

Measured at the peak: 0.75 GiB for a draft block, 0.9 for standard, 1.7 for fine, and 0.4 more with two million points.
"""
PREVIEW_SECONDS = 15.0
"""How often what is trained so far is written for who looks on."""


def train(
    run: Path,
    *,
    block: str | None = None,
    steps: int | None = None,
    downscale: int | None = None,
    pose_refinement: bool = False,
    pose_stretch: float = 0.0,
    pose_rounds: int | None = None,
    image_cache_gb: float = 1.5,
    threads: int | None = None,
    at_once: int | None = None,
    trim: float = 0.0,
    seed: int = 0,
    device: Device = "auto",
    deterministic: bool = False,
    view: bool = False,
    beside: int | None = None,
) -> list[str]:
    """Train the blocks of a run that are not trained yet, and give their names.

    A block that was stopped goes on from its last checkpoint, exactly as if it had not been. Blocks that another
    process trains at the same time are left to it.

    Args:
        run: Run folder, partitioned.
        block: Train only this block.
        steps: Optimization steps a block; by default the preset's.
        downscale: Reduce photographs by this factor; by default the preset's image size decides.
        pose_refinement: Correct the poses of each segment together while a block trains.
        pose_stretch: With pose_refinement, correct stretches of a segment about this long, in the capture's unit, for
            poses that drift.
        pose_rounds: With pose_refinement, look for poses this many times, each time with a field begun anew from those
            found before; by default three times with pose_stretch, else once. All but the last take 900 steps at most.
        image_cache_gb: Memory that the images of a block may take, in GiB.
        threads: Processor threads; by default every core.
        at_once: Blocks that train at the same time on a processor, each with its share of the threads and an image
            cache of its own; by default as many as there are cores and memory for, and one where it is looked on.
        trim: For photographs without masks: share of rays, those with the largest errors, that may show what moved
            and are ignored where their surroundings err as well; 0.15 is a good start, 0 trusts every pixel.
        seed: Source of every random choice.
        device: Where to train: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.
        deterministic: Add up in a fixed order on a GPU, too, so that the same command gives the same block; slower.
        view: Show the blocks in the browser as they train. Needs the extra `view`.
        beside: Number of the process that started this one; training stops when that is gone, even if it was killed.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        TrainingError: Options do not go together, or training met a number that is not finite.
        RunError: The folder is not partitioned, or a file of it is broken or of a training with other settings.
        LockedError: Another process trains the one block that was asked for.
    """
    check_training(
        steps=steps,
        downscale=downscale,
        at_once=at_once,
        image_cache_gb=image_cache_gb,
        trim=trim,
        seed=seed,
        view=view,
    )
    check_poses(pose_refinement, pose_stretch, pose_rounds)
    check_whole(beside=beside)
    end_with(beside)
    usable, place, folder = use_threads(threads), resolve(device), RunFolder(run)
    city, capture = read_city(folder.city), read_capture(folder.capture)
    check_downscale(capture, downscale)
    set_deterministic(deterministic)
    names = [city.block(block).name] if block else [each.name for each in city.blocks]
    choices = {
        "steps": steps,
        "downscale": downscale or default_downscale(capture, city.preset),
        "pose_refinement": pose_refinement,
        "pose_stretch": pose_stretch,
        "pose_rounds": pose_rounds or (POSE_ROUNDS if pose_stretch else 1),
        "memory": int(image_cache_gb * GIB),
        "trim": trim,
        "seed": seed,
    }
    todo = [name for name in names if not folder.field(name).exists()]
    # Who started this one has compiled them already, or could not.
    if todo and beside is None and choose("radiance", "auto", torch.empty(0, device=place)) == "native":
        _compile_kernels(usable)
    for name in names:
        if name not in todo:
            say(f"{name}: trained already")
    alone = view or place.type != "cpu"
    memory = image_cache_gb + RESERVED_BYTES / GIB
    at_once = min(at_once or (1 if alone else blocks_at_once(usable, memory)), len(todo))
    if at_once > 1:
        own = {"threads": max(1, usable // at_once), "device": place, "deterministic": deterministic}
        shared = {key: value for key, value in choices.items() if key != "memory"}
        train_apart(run, todo, at_once, {**shared, "image_cache_gb": image_cache_gb, **own})
    else:
        with shown(run, view):
            for name in todo:
                _train_alone(
                    _BlockJob(folder, city, capture, name, choices, place, view), wanted=bool(block) and beside is None
                )
    return [name for name in todo if folder.field(name).exists()]


def _train_alone(job: "_BlockJob", *, wanted: bool) -> None:
    """Train a block that no other process trains; one that is not `wanted` in particular is left to that.

    Raises:
        LockedError: another process trains the block that is wanted.
    """
    try:
        with exclusive(job.folder.training_lock(job.name), f"block {job.name}: training") as before:
            if before is not None:
                say(f"{job.name}: takes over from {before}, which was killed")
            if not job.folder.field(job.name).exists():
                job.run()
    except LockedError as error:
        if wanted:
            raise
        say(f"skipping {error}")


def check_training(
    *,
    steps: int | None = None,
    downscale: int | None = None,
    at_once: int | None = None,
    image_cache_gb: float = 1.5,
    trim: float = 0.0,
    seed: int = 0,
    view: bool = False,
) -> None:
    """Refuse options of `train` that are out of range, or do not go together.

    Raises:
        OptionError: names the option and its range.
        TrainingError: names the options.
    """
    check_whole(steps=steps, downscale=downscale, at_once=at_once)
    check_whole(least=0, seed=seed)
    check_positive(image_cache_gb=image_cache_gb)
    if not 0.0 <= trim < 1.0:
        raise OptionError(f"--trim {trim:g} is not from 0 to below 1; give the share of rays that may be ignored")
    if view and at_once and at_once > 1:
        raise TrainingError(f"--at-once {at_once} does not go with --view, which shows one block; leave one out")


def check_poses(pose_refinement: bool, pose_stretch: float, pose_rounds: int | None) -> None:
    """Refuse stretches that are no length, rounds that are none, and either where nothing is corrected.

    Raises:
        OptionError: names the option and its range.
        TrainingError: names the options that do not go together.
    """
    check_number(pose_stretch=pose_stretch)
    check_whole(pose_rounds=pose_rounds)
    if pose_stretch and not pose_refinement:
        raise TrainingError("--pose-stretch has no meaning without --pose-refinement; add it")
    if pose_rounds is not None and pose_rounds > 1 and not pose_refinement:
        raise TrainingError("--pose-rounds has no meaning without --pose-refinement; add it")


def _compile_kernels(processes: int) -> None:
    from blocknerf.kernels.ahead import GROUPS, compile_ahead, compiled_ahead

    if not compiled_ahead():
        started = time.monotonic()
        say("kernels: compiling them for this processor; once, and about a minute on two cores")
        failures = compile_ahead(processes)
        groups = f"{len(GROUPS) - len(failures)} of {len(GROUPS)} groups " if failures else ""
        say(f"kernels: {groups}compiled in {duration(time.monotonic() - started)}")
        for failure in failures:
            after = "its kernels compile when they are first called, or fail there with the full error"
            say(f"kernels: the group {failure.group} failed to compile: {failure.reason}; {after}")


class _BlockJob:
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
        self.capture, member = block_photographs(folder, name, capture)
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
            say(f"{self.name}: resuming at step {trainer.step} of {self.config.total_steps}")
        used, reason = trainer.replay
        if self.device.type != "cpu" and not used:
            say(f"{self.name}: warning: steps run kernel by kernel and not from CUDA graphs: {reason}")
        log = _Log(self.folder.log(self.name), trainer.step)
        try:
            self._loop(trainer, log)
            save_state(trainer, self.state, seconds=self.seconds)
        except TrainingError as error:
            raise TrainingError(f"block {self.name}: {error}") from None
        self._publish(trainer, log.mean_psnr())

    def _trainer(self) -> Trainer:
        torch.manual_seed(self.config.seed)
        spec = spec_for_block(self.capture, self.city.block(self.name), self.frames, self.city.preset)
        # Made on the processor, so that a block begins alike on every device.
        field = BlockField(spec).to(self.device)
        exposures = [self.capture.frames[index].exposure or spec.exposure_reference for index in self.frames]
        return Trainer(field, self._pixels(), torch.tensor(exposures, device=self.device), self.config)

    def _pixels(self) -> PixelSource | DevicePixels:
        draw = PixelSource if self.device.type == "cpu" else partial(DevicePixels, device=self.device)
        return draw(
            self.capture,
            self.frames,
            downscale=self.config.downscale,
            budget_bytes=self.config.memory,
            seed=self.config.seed,
            use_depth=True,
        )

    def _loop(self, trainer: Trainer, log: "_Log") -> None:
        started = saved = previewed = time.monotonic()
        before = self.seconds
        meter = _Meter(self.name, self.config, trainer.step)
        with meter.bar:
            while trainer.step < self.config.total_steps:
                report = trainer.advance()
                now = time.monotonic()
                self.seconds = before + now - started
                if trainer.step % LOG_EVERY == 0 or trainer.step == self.config.total_steps:
                    trainer.check()
                    meter.show(report, log.write(report, self.seconds, self.config.rays))
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
            write_offsets(trainer.poses.offsets(self.config.pose_stretch), self.folder.offsets(self.name))
        else:
            # Those of an earlier training would move cameras of this field.
            self.folder.offsets(self.name).unlink(missing_ok=True)
        occupancy = extract_occupancy(field)
        save_occupancy(occupancy, self.folder.occupancy(self.name))
        rate = self.config.total_steps * self.config.rays / max(self.seconds, 1e-9)
        record = {
            "format": RECORD_FORMAT,
            "block": self.name,
            "config": asdict(self.config),
            "frames": len(self.frames),
            "psnr": psnr,
            "seconds": round(self.seconds, 3),
            "rays_per_second": round(rate, 1),
            "occupancy": {"share": occupancy.share, "seconds": round(time.monotonic() - started, 3)},
            "peak_memory": _peak_bytes(),
            "device": device_name(self.device),
            "deterministic": self.device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
            "backends": _backends(field, self.device, trainer.moves_poses),
            "cuda_graphs": dict(zip(("used", "reason"), trainer.replay, strict=True)),
            "versions": {"blocknerf": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        write_atomic(self.folder.train_record(self.name), format_json(record))
        self._save(trainer, self.folder.field(self.name))
        shutil.rmtree(self.folder.checkpoint(self.name), ignore_errors=True)
        score = "" if psnr is None else f", training PSNR {psnr:.1f} dB"
        took = f"{self.config.total_steps} steps in {duration(self.seconds)} ({rate:,.0f} rays/s)"
        say(f"{self.name}: {len(self.frames)} frames, {took}{score}")

    def _save(self, trainer: Trainer, path: Path) -> None:
        save_field(trainer.field, path, step=trainer.step, city=self.city.digest)


class _Log:
    """`log.jsonl`: one line of figures every few steps, cut back to the checkpoint on resuming."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.lines = [line for line in read_log(path) if line.step <= step]
        write_atomic(path, "".join(line.text for line in self.lines))

    def write(self, report: StepReport, seconds: float, rays: int) -> float:
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


class _Meter:
    """Rays a second, loss, PSNR and time left: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, name: str, config: TrainConfig, step: int) -> None:
        self.name, self.config, self.told = name, config, time.monotonic()
        console = Console()
        figures = TextColumn("{task.fields[figures]}")
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), figures, TimeRemainingColumn()
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=config.total_steps, completed=step, figures="")

    def show(self, report: StepReport, rate: float) -> None:
        """Show the figures of a step."""
        figures = f"{rate:,.0f} rays/s, loss {report.loss:.4f}, PSNR {report.psnr:.1f} dB"
        self.bar.update(self.task, completed=report.step, figures=figures)
        if self.bar.disable and time.monotonic() - self.told > TELL_SECONDS:
            self.told = time.monotonic()
            left = duration((self.config.total_steps - report.step) * self.config.rays / rate)
            say(f"{self.name}: step {report.step} of {self.config.total_steps}, {figures}, {left} left")


def _backends(field: BlockField, device: torch.device, moves: bool) -> dict[str, dict[str, str]]:
    """The kernels that ran for a field, and why those."""
    found = {}
    for name in OPERATIONS:
        taken = explain(name, device, field.unfit.get(name, {}))
        poses = "; 'reference' in steps that move poses" if moves and name in MOVING else ""
        found[name] = {"backend": taken.backend, "reason": taken.reason + poses}
    return found


def _peak_bytes() -> int:
    """The most memory the process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
