"""Training on a GPU: rays/s, and PSNR over training time."""

import time
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import mean

import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.appearance import prior_for_block
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.metrics import psnr
from blocknerf.partitioning.frame_assignment import FrameAssignment, read_assignment
from blocknerf.rendering.appearance_fit import cache_rays, optimize_code
from blocknerf.rendering.image import render_image
from blocknerf.training.config import TrainConfig
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.setup import default_downscale, spec_for_block
from blocknerf.training.trainer import Trainer

FIT_RAYS, NUM_EVALUATED = 1024, 8
"""Rays to optimize the appearance code of a held-out image, and number of held-out images to evaluate."""
BUDGET = 1 << 30
"""Image cache in bytes, as in the training job."""
WARM_UP = 60
"""Steps in which kernels are compiled and graphs captured. Of 300 training steps, they cover the annealing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A block of a partitioned run, and held-out frames within it."""

    capture: Capture
    trainer: Trainer
    held_out: tuple[int, ...]
    downscale: int


def make_subject(run: Path, block: str, device: torch.device, *, steps: int | None = None, captured=None, **choices):
    """Return a block in training on a device, set up as in the training job."""
    city = read_city(RunFolder(run).city)
    capture, assignment, pixels, spec = _training_data(run, block, device)
    num_pixels = sum(
        capture.frames[i].intrinsics.width * capture.frames[i].intrinsics.height for i in assignment.frames
    )
    downscale = default_downscale(capture, city.preset)
    config = TrainConfig.preset(city.preset, pixels=num_pixels // downscale**2, steps=steps, downscale=downscale)
    config = replace(config, **choices)
    torch.manual_seed(config.seed)
    exposures = [capture.frames[i].exposure or spec.exposure_reference for i in assignment.frames]
    trainer = Trainer(
        BlockField(spec).to(device), pixels, torch.tensor(exposures, device=device), config, cuda_graphs=captured
    )
    centers, origin = capture.cameras().centers, torch.tensor(city.block(block).origin)
    near = (centers - origin)[:, :2].norm(dim=-1) < city.block(block).radius
    held_out_frames = [i for i in range(len(capture)) if bool(near[i]) and i not in set(assignment.frames)]
    evaluated = tuple(held_out_frames[:: max(1, len(held_out_frames) // NUM_EVALUATED)])
    return Subject(capture=capture, trainer=trainer, held_out=evaluated, downscale=downscale)


@cache
def _training_data(
    run: Path, block: str, device: torch.device
) -> tuple[Capture, FrameAssignment, PixelSampler, FieldSpec]:
    """Return a block's images and field spec, cached for all trainings."""
    folder = RunFolder(run)
    city = read_city(folder.city)
    capture, assignment = read_capture(folder.capture), read_assignment(folder.frames(block))
    downscale = default_downscale(capture, city.preset)
    pixels = PixelSampler(
        capture, assignment.frames, downscale=downscale, budget_bytes=BUDGET, seed=0, use_depth=True, device=device
    )
    return capture, assignment, pixels, spec_for_block(capture, city.block(block), assignment.frames, city.preset)


def rate(subject: Subject, steps: int, warm_up: int = WARM_UP) -> float:
    """Return rays/s of whole steps, after the steps that compile and record."""
    trainer = subject.trainer
    for _ in range(warm_up):
        trainer.train_step()
    _wait(trainer)
    start = time.perf_counter()
    for _ in range(steps):
        trainer.train_step()
    _wait(trainer)
    return steps * trainer.config.rays_per_step / (time.perf_counter() - start)


def score(subject: Subject, field: BlockField) -> float:
    """Return the mean PSNR of right halves of held-out images, with codes optimized on left halves."""
    device, cameras = field.origin.device, subject.capture.cameras().scaled(1 / subject.downscale)
    cameras = cameras.to(device)
    return mean(_half(subject, field, cameras, index, device) for index in subject.held_out)


def _half(subject: Subject, field: BlockField, cameras, index: int, device: torch.device) -> float:
    exposure = subject.capture.frames[index].exposure or field.spec.exposure_reference
    truth = torch.from_numpy(subject.capture.read_image(index, subject.downscale)).float().to(device) / 255
    middle = truth.shape[1] // 2
    fit_pixels = torch.arange(truth[..., 0].numel()).view(truth.shape[:2])[:, :middle].flatten()
    fit_pixels = fit_pixels[torch.randperm(len(fit_pixels), generator=torch.Generator().manual_seed(0))[:FIT_RAYS]].to(
        device
    )
    rays = cameras.generate_rays(index).flatten()[fit_pixels]
    color_of = partial(cache_rays(field, rays, exposure).color, field)
    code = optimize_code(color_of, truth.reshape(-1, 3)[fit_pixels], prior=prior_for_block(field))
    return float(
        psnr(render_image(field, cameras.generate_rays(index), code, exposure).color[:, middle:], truth[:, middle:])
    )


def curve(subject: Subject, num_points: int) -> list[tuple[float, int, float]]:
    """Return seconds of training, step and PSNR, several times during training."""
    trainer, seconds, points = subject.trainer, 0.0, []
    for index in range(num_points):
        last = trainer.config.steps * (index + 1) // num_points
        start = time.perf_counter()
        while trainer.step < last:
            trainer.train_step()
        trainer.check()
        _wait(trainer)
        seconds += time.perf_counter() - start
        points.append((round(seconds, 2), trainer.step, round(score(subject, trainer.field), 2)))
        print(f"after {seconds:.2f} s, {trainer.step} steps: {points[-1][2]:.2f} dB", flush=True)
    return points


def _wait(trainer: Trainer) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
