"""Rendering with empty space skipped and spent rays stopped, against plain proposal rendering, in one run.

    python -m tests.benchmarks.rendering [RUN]

Takes the trained blocks of a run (by default that of `make demo`) and their held-out views, a few each.
"""

import json
import math
import sys
import time
from pathlib import Path
from statistics import median

from blocknerf.kernels.threads import use_threads

THREADS = use_threads()  # first of all: PyTorch reads how to wait when it is imported

from blocknerf.capture.capture import read_capture  # noqa: E402
from blocknerf.city.manifest import RunFolder, read_city  # noqa: E402
from blocknerf.fields.checkpoint import load_field  # noqa: E402
from blocknerf.fields.occupancy import load_occupancy  # noqa: E402
from blocknerf.partition.membership import read_membership  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402

VIEWS, REQUIRED_RATIO, REQUIRED_PSNR = 4, 2.0, 45.0


def main() -> None:
    """Print a table and one line of JSON."""
    run = RunFolder(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/mini_city"))
    capture, city = read_capture(run.capture), read_city(run.city)
    record = json.loads(run.train_record(city.blocks[0].name).read_text())
    cameras = capture.cameras().scaled(1 / record["config"]["downscale"])
    ratios, errors, rates = [], [], {"plain": [], "sparse": []}
    print(f"{'block':<8}{'view':>6}{'plain px/s':>12}{'sparse px/s':>13}{'ratio':>7}{'PSNR dB':>9}")
    for block in city.blocks:
        field, occupancy = load_field(run.field(block.name)), load_occupancy(run.occupancy(block.name))
        views = read_membership(run.frames(block.name), capture).held_out
        code, exposure = field.mean_code(), field.spec.exposure_reference
        for view in views[:: max(1, len(views) // VIEWS)]:
            seconds, pictures = {}, {}
            for name, grid in (("plain", None), ("sparse", occupancy)):
                start = time.perf_counter()
                pictures[name] = render_image(field, cameras, view, code, exposure, grid).color
                seconds[name] = time.perf_counter() - start
                rates[name].append(pictures[name][..., 0].numel() / seconds[name])
            error = float((pictures["plain"] - pictures["sparse"]).square().mean())
            ratios.append(seconds["plain"] / seconds["sparse"])
            errors.append(-10 * math.log10(max(error, 1e-12)))
            print(
                f"{block.name:<8}{view:>6}{rates['plain'][-1]:>12,.0f}{rates['sparse'][-1]:>13,.0f}"
                f"{ratios[-1]:>7.2f}{errors[-1]:>9.1f}"
            )
    result = {
        "ratio": round(median(ratios), 3),
        "psnr_lowest": round(min(errors), 2),
        "plain_pixels_per_second": round(median(rates["plain"])),
        "sparse_pixels_per_second": round(median(rates["sparse"])),
    }
    print(f"required: ratio {REQUIRED_RATIO}, PSNR {REQUIRED_PSNR} dB")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
