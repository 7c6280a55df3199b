"""One block of the product against a naive field, given the same time on the same machine, one after the other.

    python -m tests.benchmarks.against_naive CAPTURE [--seconds 300] [--downscale 2] [--naive SCRIPT]

Both train on every frame but each 8th and are scored on those, whole pictures with the mean appearance code:
the naive field's own protocol. The product is scored by the half-image protocol as well.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blocknerf.kernels.threads import use_threads

use_threads()  # first of all: PyTorch reads how to wait when it is imported

import torch  # noqa: E402

from blocknerf.metrics.similarity import psnr  # noqa: E402
from blocknerf.rendering.code_fit import fit_code  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from tests.benchmarks.one_block import OneBlock, one_block  # noqa: E402

SHARED = Path(__file__).parents[3] / "shared" / "baseline" / "naive_cpu.py"
PROBE_STEPS, FIT_RAYS = 60, 4096


def train_for(path: Path, seconds: float, downscale: int, radius: float | None) -> tuple[OneBlock, float]:
    """A block trained for about `seconds`, with the schedule sized by the speed of its first steps."""
    probe = one_block(path, steps=10_000, downscale=downscale, radius=radius).trainer
    for _ in range(5):
        probe.advance()
    start = time.perf_counter()
    for _ in range(PROBE_STEPS):
        probe.advance()
    steps = int(seconds / (time.perf_counter() - start) * PROBE_STEPS)
    block = one_block(path, steps=steps, downscale=downscale, radius=radius)
    start = time.perf_counter()
    while block.trainer.step < steps and time.perf_counter() - start < seconds:
        block.trainer.advance()
    return block, time.perf_counter() - start


def score(block: OneBlock, downscale: int) -> tuple[float, float]:
    """Mean PSNR of held-out pictures: whole with the mean code, and right halves with a code fitted on the left."""
    field, capture = block.trainer.field.eval(), block.capture
    cameras, mean = capture.cameras().scaled(1 / downscale), field.mean_code()
    whole, half = [], []
    for index in block.held_out:
        exposure = capture.frames[index].exposure or field.spec.exposure_reference
        truth = torch.from_numpy(capture.read_image(index, downscale)).float() / 255
        height, width = truth.shape[:2]
        whole.append(psnr(render_image(field, cameras, index, mean, exposure).color, truth))
        left = torch.arange(height * width).view(height, width)[:, : width // 2].flatten()
        left = left[torch.randperm(len(left), generator=torch.Generator().manual_seed(0))[:FIT_RAYS]]
        rays = cameras.image_rays(index).flatten()[left]
        code = fit_code(field, rays, truth.reshape(-1, 3)[left], exposure, start=mean)
        right = render_image(field, cameras, index, code, exposure).color[:, width // 2 :]
        half.append(psnr(right, truth[:, width // 2 :]))
    return sum(whole) / len(whole), sum(half) / len(half)


def naive(script: Path, path: Path, seconds: float, downscale: int, settings: list[str]) -> float:
    """The naive field's last PSNR."""
    choice = {"ROOT": f"{path}/", "DS": str(downscale), "SECS": str(seconds), "LOG2T": "17"}
    choice |= dict(item.split("=") for item in settings)
    with tempfile.TemporaryDirectory() as folder:  # it leaves a picture behind
        done = subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | choice,
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
        )
    return float(re.findall(r"PSNR ([\d.]+)", done.stdout)[-1])


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
    whole, half = score(block, options.downscale)
    rays = block.trainer.step * block.trainer.config.rays
    print(
        f"{path.name}: ours {whole:.2f} dB whole, {half:.2f} dB half-image, {rays / spent:,.0f} rays/s, {spent:.0f} s"
    )
    result = {"capture": path.name, "seconds": options.seconds, "psnr": round(whole, 2), "psnr_half": round(half, 2)}
    if options.naive.exists():
        script = options.naive.resolve()
        result["naive"] = naive(script, path, options.seconds, options.downscale, options.settings)
        print(f"{path.name}: naive {result['naive']:.2f} dB whole")
    else:
        print(f"naive: not run, {options.naive} is absent")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
