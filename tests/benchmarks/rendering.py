"""Rendering a block with the fused marching kernel against plain rendering with separate kernels.

    python -m tests.benchmarks.rendering [RUN]

Renders a few held-out views of each trained block of a run (default: that of `make demo`). Occupancy is extracted
again, so that runs of earlier versions are comparable. Three modes are timed alternately: plain, marching, and marching
that skips empty cells. The time of a view is the best of its rounds.
"""

import json
import math
import sys
import time
from pathlib import Path
from statistics import median

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

from torch import Tensor  # noqa: E402

from blocknerf.cameras import Cameras  # noqa: E402
from blocknerf.capture.capture_file import read_capture  # noqa: E402
from blocknerf.city.manifest import read_city  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.fields.block_field import BlockField  # noqa: E402
from blocknerf.fields.checkpoint import load_field  # noqa: E402
from blocknerf.fields.occupancy import extract_occupancy  # noqa: E402
from blocknerf.metrics import mean_squared_to_psnr  # noqa: E402
from blocknerf.partitioning.frame_assignment import read_assignment  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from pipelines.training_log import training_downscale  # noqa: E402

VIEWS, ROUNDS, REQUIRED_RATIO, REQUIRED_PSNR = 4, 3, 2.0, 45.0


def main() -> None:
    """Print a table and one line of JSON."""
    run = RunFolder(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/mini_city"))
    capture, city = read_capture(run.capture), read_city(run.city)
    print(f"{'':14}{'pixels/s':>27}{'speedup':>20}{'PSNR to plain':>18}")
    print(f"{'block':<8}{'view':>6}{'plain':>9}{'march':>9}{'skip':>9}{'march':>11}{'skip':>9}{'march':>9}{'skip':>9}")
    rows = []
    cameras = capture.cameras().scaled(1 / training_downscale(run))
    for block in city.blocks:
        plain, skipping = load_field(run.field(block.name)), load_field(run.field(block.name))
        skipping.set_occupancy(extract_occupancy(skipping))
        views = read_assignment(run.frames(block.name), capture).test_frames
        for view in views[:: max(1, len(views) // VIEWS)]:
            rows.append(compare(plain, skipping, cameras, view))
            rates, ratios, errors = rows[-1]
            figures = f"{''.join(f'{rate:>9,.0f}' for rate in rates)}  {''.join(f'{ratio:>9.2f}' for ratio in ratios)}"
            print(f"{block.name:<8}{view:>6}{figures}{''.join(f'{error:>9.1f}' for error in errors)}")
    print(f"{THREADS} threads; required: speedup {REQUIRED_RATIO}, {REQUIRED_PSNR} dB")
    print(json.dumps(summary(rows)))


def compare(
    plain: BlockField, skipping: BlockField, cameras: Cameras, view: int
) -> tuple[list[float], list[float], list[float]]:
    """Return the pixels/s of the three modes, and speedup and PSNR of the last two relative to the first."""
    modes = ((plain, True), (plain, False), (skipping, False))
    seconds, images = [math.inf] * 3, [render(*mode, cameras, view) for mode in modes]  # also compiles
    for _ in range(ROUNDS):
        for index, mode in enumerate(modes):
            start = time.perf_counter()
            render(*mode, cameras, view)
            seconds[index] = min(seconds[index], time.perf_counter() - start)
    errors = [float((images[0] - image).square().mean()) for image in images[1:]]
    return (
        [images[0][..., 0].numel() / duration for duration in seconds],
        [seconds[0] / duration for duration in seconds[1:]],
        [mean_squared_to_psnr(max(error, 1e-12)) for error in errors],
    )


def render(field: BlockField, plain: bool, cameras: Cameras, view: int) -> Tensor:
    """Render a view with the mean appearance code of the block."""
    return render_image(
        field,
        cameras.generate_rays(view),
        field.mean_appearance_code(),
        field.spec.exposure_reference,
        use_march=not plain,
    ).color


def summary(rows: list[tuple[list[float], list[float], list[float]]]) -> dict[str, float]:
    """Return the medians, and the minimum PSNR."""
    rates, ratios, errors = (
        [[row[part][mode] for row in rows] for mode in range(len(rows[0][part]))] for part in range(3)
    )
    return {
        "ratio": round(median(ratios[1]), 3),
        "ratio_without_grid": round(median(ratios[0]), 3),
        "min_psnr": round(min(errors[1]), 2),
        "min_psnr_without_grid": round(min(errors[0]), 2),
        "plain_pixels_per_second": round(median(rates[0])),
        "pixels_per_second": round(median(rates[2])),
    }


if __name__ == "__main__":
    main()
