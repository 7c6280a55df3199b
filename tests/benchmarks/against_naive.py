"""One block against a naive field, trained for the same time on the same machine, one after the other.

    python -m tests.benchmarks.against_naive CAPTURE [--seconds 300] [--downscale 2] [--naive SCRIPT]

Every 8th frame is held out and scored. `mean_code`: renderings with the mean appearance code, the protocol of the naive
field; under changing light, it rewards fields that bake the light into the geometry. `neighbor_code`: renderings with
the mean code of the previous and next images. `half`: right halves with a code fitted on the left, on 12 frames.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

import torch  # noqa: E402

from blocknerf.city.appearance import prior_for_block  # noqa: E402
from blocknerf.metrics import psnr  # noqa: E402
from blocknerf.rendering.appearance_fit import cache_rays, optimize_code  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from tests.benchmarks.one_block import OneBlock, one_block  # noqa: E402

SHARED = Path(__file__).parents[3] / "shared" / "baseline" / "naive_cpu.py"
WARM_UP, MAX_STEPS, RESIZE, FIT_RAYS, FITTED = 3, 100_000, 20, 1024, 12


def fitted_frames(held_out: Sequence[int]) -> list[int]:
    """Return the held-out frames to fit a code to."""
    return list(held_out[:: max(1, len(held_out) // FITTED)])


def train_for(path: Path, seconds: float, downscale: int, radius: float | None) -> tuple[OneBlock, float]:
    """Train a block for `seconds`; its schedule follows the clock, like that of the naive field."""
    warm = one_block(path, steps=WARM_UP, downscale=downscale, radius=radius).trainer
    while warm.step < WARM_UP:  # compile kernels outside the measured time
        warm.train_step()
    block = one_block(path, steps=MAX_STEPS, downscale=downscale, radius=radius)
    trainer, start, elapsed = block.trainer, time.perf_counter(), 0.0
    while elapsed < seconds:
        trainer.train_step()
        elapsed = time.perf_counter() - start
        if trainer.step % RESIZE == 0:
            steps = round(trainer.step * max(1.0, seconds / elapsed))
            trainer.config = trainer.optimizer.config = replace(trainer.config, steps=steps)
    return block, elapsed


def neighbor_frames(index: int, trained: Sequence[int]) -> list[int]:
    """Return the training frames before and after a held-out frame."""
    return [neighbor for neighbor in (index - 1, index + 1) if neighbor in trained]


def mean_scores(frames: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the frames that have it."""
    scores: dict[str, list[float]] = {}
    for frame in frames:
        for name, value in frame.items():
            scores.setdefault(name, []).append(value)
    return {name: round(sum(values) / len(values), 2) for name, values in scores.items()}


def score(block: OneBlock, downscale: int) -> dict[str, float]:
    """Return the mean PSNR of held-out frames by the three protocols."""
    field, capture = block.trainer.field.eval(), block.capture
    cameras, mean, trained = (
        capture.cameras().scaled(1 / downscale),
        field.mean_appearance_code(),
        block.trainer.pixels.frames,
    )
    frames, fitted = [], fitted_frames(block.held_out)
    for index in block.held_out:
        exposure = capture.frames[index].exposure or field.spec.exposure_reference
        truth = torch.from_numpy(capture.read_image(index, downscale)).float() / 255
        center = truth.shape[1] // 2
        neighbors = [trained.index(neighbor) for neighbor in neighbor_frames(index, trained)]
        codes = {"mean_code": mean, "neighbor_code": field.appearance_codes.detach()[neighbors].mean(0)}
        frame_scores = {
            name: psnr(render_image(field, cameras.generate_rays(index), code, exposure).color, truth)
            for name, code in codes.items()
        }
        if index in fitted:
            left = torch.arange(truth[..., 0].numel()).view(truth.shape[:2])[:, :center].flatten()
            left = left[torch.randperm(len(left), generator=torch.Generator().manual_seed(0))[:FIT_RAYS]]
            rays = cameras.generate_rays(index).flatten()[left]
            color_of = partial(cache_rays(field, rays, exposure).color, field)
            code = optimize_code(color_of, truth.reshape(-1, 3)[left], prior=prior_for_block(field))
            right = render_image(field, cameras.generate_rays(index), code, exposure).color[:, center:]
            frame_scores["half"] = psnr(right, truth[:, center:])
        frames.append(frame_scores)
    return mean_scores(frames)


def naive(script: Path, path: Path, seconds: float, downscale: int, settings: list[str]) -> dict[str, float]:
    """Return the scores of the naive field by the three protocols."""
    variables = {"ROOT": f"{path}/", "DS": str(downscale), "SECS": str(seconds), "LOG2T": "17"}
    variables |= dict(item.split("=") for item in settings)
    command = [sys.executable, "-m", "tests.benchmarks.naive_field", str(script)]
    done = subprocess.run(
        command,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("capture", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--radius", type=float, default=None)
    parser.add_argument("--naive", type=Path, default=SHARED)
    parser.add_argument("--settings", nargs="*", default=[], help="settings of the naive script, as NAME=VALUE")
    options = parser.parse_args()
    path = options.capture.resolve()
    block, elapsed = train_for(path, options.seconds, options.downscale, options.radius)
    result = {"blocknerf": score(block, options.downscale)}
    rays = block.trainer.step * block.trainer.config.rays_per_step
    print(f"{path.name}: {rays / elapsed:,.0f} rays/s, {elapsed:.0f} s")
    if options.naive.exists():
        script = options.naive.resolve()
        result["naive"] = naive(script, path, options.seconds, options.downscale, options.settings)
    else:
        print(f"naive: skipped, {options.naive} is missing")
    for name, scores in result.items():
        print(
            f"{name:>10}: " + ", ".join(f"{scores[key]:.2f} dB {key}" for key in ("mean_code", "neighbor_code", "half"))
        )
    print(json.dumps({"capture": path.name, "seconds": options.seconds, **result}))


if __name__ == "__main__":
    main()
