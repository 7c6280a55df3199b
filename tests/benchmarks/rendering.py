"""Marching a block's rays in one kernel against plain rendering, kernel after kernel with tensors between, in one run.

    python -m tests.benchmarks.rendering [RUN]

Takes the trained blocks of a run (by default that of `make demo`) and a few of their held-out views. What is empty is
looked for anew, so that a run of an earlier version shows what a run of this one would. Three ways are timed, turn and
turn about: plain, marching, and marching with empty cells left out. A view's time is the best of its rounds.
"""

import json
import math
import sys
import time
from pathlib import Path
from statistics import median

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

from torch import Tensor  # noqa: E402

from blocknerf.cameras import Cameras  # noqa: E402
from blocknerf.capture.capture import read_capture  # noqa: E402
from blocknerf.city.manifest import read_city  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.city.training_images import block_training_frames  # noqa: E402
from blocknerf.fields.block_field import BlockField  # noqa: E402
from blocknerf.fields.checkpoint import load_field  # noqa: E402
from blocknerf.fields.occupancy_extraction import extract_occupancy  # noqa: E402
from blocknerf.metrics.image_quality import mean_squared_to_psnr  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from pipelines.training_log import training_downscale  # noqa: E402

VIEWS, ROUNDS, REQUIRED_RATIO, REQUIRED_PSNR = 4, 3, 2.0, 45.0


def main() -> None:
    """Print a table and one line of JSON."""
    run = RunFolder(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/mini_city"))
    capture, city = read_capture(run.capture), read_city(run.city)
    print(f"{'':14}{'pixels a second':>27}{'times plain':>20}{'dB from plain':>18}")
    print(f"{'block':<8}{'view':>6}{'plain':>9}{'march':>9}{'skip':>9}{'march':>11}{'skip':>9}{'march':>9}{'skip':>9}")
    rows = []
    for block in city.blocks:
        plain, skipping = load_field(run.field(block.name)), load_field(run.field(block.name))
        skipping.set_occupancy(extract_occupancy(skipping))
        own, member = block_training_frames(run, block.name, capture)
        cameras, views = own.cameras().scaled(1 / training_downscale(run)), member.test_frames
        for view in views[:: max(1, len(views) // VIEWS)]:
            rows.append(compare(plain, skipping, cameras, view))
            rates, ratios, errors = rows[-1]
            figures = f"{''.join(f'{rate:>9,.0f}' for rate in rates)}  {''.join(f'{ratio:>9.2f}' for ratio in ratios)}"
            print(f"{block.name:<8}{view:>6}{figures}{''.join(f'{error:>9.1f}' for error in errors)}")
    print(f"{THREADS} threads; required: {REQUIRED_RATIO} times plain, {REQUIRED_PSNR} dB")
    print(json.dumps(summary(rows)))


def compare(
    plain: BlockField, skipping: BlockField, cameras: Cameras, view: int
) -> tuple[list[float], list[float], list[float]]:
    """Pixels a second of the three ways, and how the last two compare with the first in speed and PSNR."""
    ways = ((plain, True), (plain, False), (skipping, False))
    seconds, pictures = [math.inf] * 3, [draw(*way, cameras, view) for way in ways]  # the first compiles
    for _ in range(ROUNDS):
        for index, way in enumerate(ways):
            start = time.perf_counter()
            draw(*way, cameras, view)
            seconds[index] = min(seconds[index], time.perf_counter() - start)
    errors = [float((pictures[0] - picture).square().mean()) for picture in pictures[1:]]
    return (
        [pictures[0][..., 0].numel() / each for each in seconds],
        [seconds[0] / each for each in seconds[1:]],
        [mean_squared_to_psnr(max(error, 1e-12)) for error in errors],
    )


def draw(field: BlockField, plainly: bool, cameras: Cameras, view: int) -> Tensor:
    """A view in the mean light of the block's photographs."""
    return render_image(
        field, cameras.generate_rays(view), field.mean_appearance_code(), field.spec.exposure_reference, plain=plainly
    ).color


def summary(rows: list[tuple[list[float], list[float], list[float]]]) -> dict[str, float]:
    """The medians, and the lowest PSNR."""
    rates, ratios, errors = (
        [[row[part][way] for row in rows] for way in range(len(rows[0][part]))] for part in range(3)
    )
    return {
        "ratio": round(median(ratios[1]), 3),
        "ratio_without_grid": round(median(ratios[0]), 3),
        "psnr_lowest": round(min(errors[1]), 2),
        "psnr_lowest_without_grid": round(min(errors[0]), 2),
        "plain_pixels_per_second": round(median(rates[0])),
        "pixels_per_second": round(median(rates[2])),
    }


if __name__ == "__main__":
    main()
