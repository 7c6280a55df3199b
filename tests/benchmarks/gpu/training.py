"""Training on a GPU: rays and samples a second, and how good a block is after how long."""

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean

import torch

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_training_frames
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.metrics.image_quality import psnr
from blocknerf.partition.frame_assignment import FrameAssignment
from blocknerf.rendering.appearance_fit import optimize_code
from blocknerf.rendering.image import render_image
from blocknerf.training.block_spec import default_downscale, spec_for_block
from blocknerf.training.config import TrainConfig
from blocknerf.training.device_pixel_sampler import DevicePixelSampler
from blocknerf.training.trainer import Trainer

FIT_RAYS, JUDGED = 1024, 8
"""Rays that a held-out photograph's code is fitted on, and how many photographs are judged."""
BUDGET = 1 << 30
"""Bytes of photographs, as many as the training job's."""
WARM_UP = 60
"""Steps in which kernels are compiled and graphs recorded, and of 300 annealing ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A block of a partitioned run, and the frames that nobody trains on but that stand in it."""

    capture: Capture
    trainer: Trainer
    held_out: tuple[int, ...]
    downscale: int


def subject(run: Path, block: str, device: torch.device, *, steps: int | None = None, captured=None, **choices):
    """A block in training on a device, as the training job would set it up."""
    city = read_city(RunFolder(run).city)
    capture, member, source, spec = _photographs(run, block, device)
    pixels = sum(capture.frames[i].intrinsics.width * capture.frames[i].intrinsics.height for i in member.frames)
    downscale = default_downscale(capture, city.preset)
    config = TrainConfig.preset(city.preset, pixels=pixels // downscale**2, steps=steps, downscale=downscale)
    config = replace(config, **choices)
    torch.manual_seed(config.seed)
    exposures = [capture.frames[i].exposure or spec.exposure_reference for i in member.frames]
    trainer = Trainer(
        BlockField(spec).to(device), source, torch.tensor(exposures, device=device), config, captured=captured
    )
    centers, origin = capture.cameras().centers, torch.tensor(city.block(block).origin)
    near = (centers - origin)[:, :2].norm(dim=-1) < city.block(block).radius
    held = [i for i in range(len(capture)) if bool(near[i]) and i not in set(member.frames)]
    judged = tuple(held[:: max(1, len(held) // JUDGED)])
    return Subject(capture=capture, trainer=trainer, held_out=judged, downscale=downscale)


@cache
def _photographs(
    run: Path, block: str, device: torch.device
) -> tuple[Capture, FrameAssignment, DevicePixelSampler, FieldSpec]:
    """A block's photographs and form, found once for all that train it."""
    folder = RunFolder(run)
    city, whole = read_city(folder.city), read_capture(folder.capture)
    capture, member = block_training_frames(folder, block, whole)
    downscale = default_downscale(capture, city.preset)
    source = DevicePixelSampler(
        capture, member.frames, downscale=downscale, budget_bytes=BUDGET, seed=0, use_depth=True, device=device
    )
    return capture, member, source, spec_for_block(capture, city.block(block), member.frames, city.preset)


def rate(of: Subject, steps: int, warm_up: int = WARM_UP) -> float:
    """Rays a second, everything included, after the steps that compile and record."""
    trainer = of.trainer
    for _ in range(warm_up):
        trainer.train_step()
    _wait(trainer)
    start = time.perf_counter()
    for _ in range(steps):
        trainer.train_step()
    _wait(trainer)
    return steps * trainer.config.rays_per_step / (time.perf_counter() - start)


def score(of: Subject, field: BlockField) -> float:
    """Mean PSNR of right halves of held-out photographs, with codes fitted on the left."""
    device, cameras = field.origin.device, of.capture.cameras().scaled(1 / of.downscale)
    cameras = cameras.to(device)
    return mean(_half(of, field, cameras, index, device) for index in of.held_out)


def _half(of: Subject, field: BlockField, cameras, index: int, device: torch.device) -> float:
    exposure = of.capture.frames[index].exposure or field.spec.exposure_reference
    truth = torch.from_numpy(of.capture.read_image(index, of.downscale)).float().to(device) / 255
    middle = truth.shape[1] // 2
    left = torch.arange(truth[..., 0].numel()).view(truth.shape[:2])[:, :middle].flatten()
    left = left[torch.randperm(len(left), generator=torch.Generator().manual_seed(0))[:FIT_RAYS]].to(device)
    rays = cameras.generate_rays(index).flatten()[left]
    code = optimize_code(field, rays, truth.reshape(-1, 3)[left], exposure, start=field.mean_appearance_code())
    return float(
        psnr(render_image(field, cameras.generate_rays(index), code, exposure).color[:, middle:], truth[:, middle:])
    )


def curve(of: Subject, points: int) -> list[tuple[float, int, float]]:
    """Seconds of training, step and PSNR, a few times on the way."""
    trainer, spent, found = of.trainer, 0.0, []
    for part in range(points):
        last = trainer.config.steps * (part + 1) // points
        start = time.perf_counter()
        while trainer.step < last:
            trainer.train_step()
        trainer.check()
        _wait(trainer)
        spent += time.perf_counter() - start
        found.append((round(spent, 2), trainer.step, round(score(of, trainer.field), 2)))
        print(f"after {spent:.2f} s, {trainer.step} steps: {found[-1][2]:.2f} dB", flush=True)
    return found


def _wait(trainer: Trainer) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
