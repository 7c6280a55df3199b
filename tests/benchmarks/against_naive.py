"""One block of the product against a naive field, given the same time on the same machine, one after the other.

    python -m tests.benchmarks.against_naive CAPTURE [--seconds 300] [--downscale 2] [--naive SCRIPT]

Both train on every frame but each 8th and are scored on those. `whole`: pictures with the mean appearance code, which
is the naive field's own protocol; where the light of a capture changes, it rewards a field that bakes the light into
places. `beside`: pictures with the mean code of the photographs before and after. `half`: right halves with a code
fitted on the left, on a dozen of them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

import torch  # noqa: E402

from blocknerf.metrics.image_quality import psnr  # noqa: E402
from blocknerf.rendering.appearance_fit import optimize_code  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from tests.benchmarks.one_block import OneBlock, one_block  # noqa: E402

SHARED = Path(__file__).parents[3] / "shared" / "baseline" / "naive_cpu.py"
WARM_UP, MOST_STEPS, RESIZE, FIT_RAYS, FITTED = 3, 100_000, 20, 1024, 12


def scored(held_out: Sequence[int]) -> list[int]:
    """The held-out frames that a code is fitted to."""
    return list(held_out[:: max(1, len(held_out) // FITTED)])


def train_for(path: Path, seconds: float, downscale: int, radius: float | None) -> tuple[OneBlock, float]:
    """A block trained for `seconds`; its schedule follows the clock, as the naive field's does."""
    warm = one_block(path, steps=WARM_UP, downscale=downscale, radius=radius).trainer
    while warm.step < WARM_UP:  # kernels are compiled once after they are installed, and not again for each block
        warm.train_step()
    block = one_block(path, steps=MOST_STEPS, downscale=downscale, radius=radius)
    trainer, start, spent = block.trainer, time.perf_counter(), 0.0
    while spent < seconds:
        trainer.train_step()
        spent = time.perf_counter() - start
        if trainer.step % RESIZE == 0:
            steps = round(trainer.step * max(1.0, seconds / spent))
            trainer.config = trainer.optimizer.config = replace(trainer.config, steps=steps)
    return block, spent


def beside(index: int, trained: Sequence[int]) -> list[int]:
    """The frames trained on that come before and after one that is not, in the capture's order."""
    return [other for other in (index - 1, index + 1) if other in trained]


def mean_scores(frames: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of each score over the frames that have it."""
    found: dict[str, list[float]] = {}
    for frame in frames:
        for name, value in frame.items():
            found.setdefault(name, []).append(value)
    return {name: round(sum(values) / len(values), 2) for name, values in found.items()}


def score(block: OneBlock, downscale: int) -> dict[str, float]:
    """Mean PSNR of held-out pictures by the three protocols."""
    field, capture = block.trainer.field.eval(), block.capture
    cameras, mean, trained = (
        capture.cameras().scaled(1 / downscale),
        field.mean_appearance_code(),
        block.trainer.pixels.frames,
    )
    frames, fitted = [], scored(block.held_out)
    for index in block.held_out:
        exposure = capture.frames[index].exposure or field.spec.exposure_reference
        truth = torch.from_numpy(capture.read_image(index, downscale)).float() / 255
        middle = truth.shape[1] // 2
        near = field.appearance_codes.detach()[[trained.index(other) for other in beside(index, trained)]].mean(0)
        codes = {"whole": mean, "beside": near}
        found = {
            name: psnr(render_image(field, cameras.generate_rays(index), code, exposure).color, truth)
            for name, code in codes.items()
        }
        if index in fitted:
            left = torch.arange(truth[..., 0].numel()).view(truth.shape[:2])[:, :middle].flatten()
            left = left[torch.randperm(len(left), generator=torch.Generator().manual_seed(0))[:FIT_RAYS]]
            rays = cameras.generate_rays(index).flatten()[left]
            code = optimize_code(field, rays, truth.reshape(-1, 3)[left], exposure, start=mean)
            right = render_image(field, cameras.generate_rays(index), code, exposure).color[:, middle:]
            found["half"] = psnr(right, truth[:, middle:])
        frames.append(found)
    return mean_scores(frames)


def naive(script: Path, path: Path, seconds: float, downscale: int, settings: list[str]) -> dict[str, float]:
    """The naive field's scores by the three protocols."""
    choice = {"ROOT": f"{path}/", "DS": str(downscale), "SECS": str(seconds), "LOG2T": "17"}
    choice |= dict(item.split("=") for item in settings)
    command = [sys.executable, "-m", "tests.benchmarks.naive_field", str(script)]
    done = subprocess.run(
        command, env=os.environ | choice, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2]
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
    parser.add_argument("--settings", nargs="*", default=[], help="the naive script's own, as NAME=VALUE")
    options = parser.parse_args()
    path = options.capture.resolve()
    block, spent = train_for(path, options.seconds, options.downscale, options.radius)
    result = {"ours": score(block, options.downscale)}
    rays = block.trainer.step * block.trainer.config.rays_per_step
    print(f"{path.name}: {rays / spent:,.0f} rays/s, {spent:.0f} s")
    if options.naive.exists():
        script = options.naive.resolve()
        result["naive"] = naive(script, path, options.seconds, options.downscale, options.settings)
    else:
        print(f"naive: not run, {options.naive} is absent")
    for name, scores in result.items():
        print(f"{name:>8}: " + ", ".join(f"{scores[key]:.2f} dB {key}" for key in ("whole", "beside", "half")))
    print(json.dumps({"capture": path.name, "seconds": options.seconds, **result}))


if __name__ == "__main__":
    main()
