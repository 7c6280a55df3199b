"""Held-out PSNR after 1, 4 and 16 times the rays of a draft: more training must not score worse.

    python -m tests.benchmarks.training_length CAPTURE... [--times 1 4 16] [--downscale 2] [--set training.grid_lr=0.02]

Each length is a training of its own, since the schedule depends on the length. Whole held-out images are rendered with
the mean appearance code; pixels that masks cover are not scored.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

import torch  # noqa: E402

from blocknerf.capture.transforms import read_transforms  # noqa: E402
from blocknerf.metrics import psnr  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from blocknerf.training.config import Overrides  # noqa: E402
from blocknerf.training.setup import make_config  # noqa: E402
from tests.benchmarks.one_block import OneBlock, one_block  # noqa: E402

ALLOWED_FALL = 0.1
"""Decibels by which a longer training may score below the best shorter one."""


def held_out_psnr(block: OneBlock, downscale: int) -> float:
    """Return the mean PSNR of the static pixels of the held-out images."""
    field, capture, scores = block.trainer.field, block.capture, []
    cameras, code = capture.cameras().scaled(1 / downscale), field.mean_appearance_code()
    for index in block.held_out:
        mask = capture.read_mask(index, downscale)
        exposure = capture.frames[index].exposure or field.spec.exposure_reference
        color = render_image(field, cameras.generate_rays(index), code, exposure).color
        truth = torch.from_numpy(capture.read_image(index, downscale)).float() / 255
        scores.append(psnr(color, truth, None if mask is None else torch.from_numpy(mask.copy())))
    known = [score for score in scores if score is not None]
    return sum(known) / len(known)


def measure(path: Path, times: int, downscale: int, radius: float | None, training: dict[str, Any]) -> dict[str, float]:
    """Train one block for `times` the steps of a draft; return what was done and its score."""
    capture = read_transforms(path)
    steps = times * make_config(capture, range(len(capture)), downscale=downscale).steps
    block = one_block(path, steps=steps, downscale=downscale, radius=radius, **training)
    start, cpu = time.perf_counter(), time.process_time()
    while block.trainer.step < steps:
        block.trainer.train_step()
    seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    return {"times": times, "steps": steps, "psnr": held_out_psnr(block, downscale), **seconds}


def main() -> None:
    """Print a table and one line of JSON; exit with 1 if a longer training scored worse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("captures", type=Path, nargs="+")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--radius", type=float, default=None)
    parser.add_argument("--set", dest="settings", nargs="*", default=[])
    options = parser.parse_args()
    training, result, falls = dict(Overrides.parse(options.settings).training), {}, False
    print(f"{'capture':<24}{'times':>6}{'steps':>8}{'CPU s':>8}{'PSNR':>8}{'below best':>12}")
    for path in options.captures:
        rows, best = [], 0.0
        for times in sorted(options.times):
            row = measure(path.resolve(), times, options.downscale, options.radius, training)
            best = max(best, row["psnr"])
            rows.append(row | {"below_best": best - row["psnr"]})
            falls |= rows[-1]["below_best"] > ALLOWED_FALL
            print(
                f"{path.stem:<24}{times:>6}{row['steps']:>8}{row['cpu_seconds']:>8.0f}{row['psnr']:>8.2f}"
                f"{rows[-1]['below_best']:>12.2f}",
                flush=True,
            )
        result[path.stem] = rows
    print(json.dumps(result))
    raise SystemExit(int(falls))


if __name__ == "__main__":
    main()
