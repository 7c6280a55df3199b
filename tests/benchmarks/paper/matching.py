"""What matching does to the seams of a trained run, as a result file, and a day passing in pictures.

    python -m tests.benchmarks.paper.matching RUN [--steps 80] [--day drive0_noon drive1_dusk] [--out FILE]

The measure is that of `tests.benchmarks.matching`: `seam_before` is the difference in color between neighbors whose
codes are of different lights, `seam_after` that of matched codes, both in views that matching did not see;
`same_light` is that of blocks which show one light as each of them learned it: what they know otherwise than light. The
pictures pass from the light of one segment to that of another. Of each, the left half is of one block alone and the
right half of its neighbor, at a place in the middle between them: a seam would stand in the middle of every picture.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

import numpy as np  # noqa: E402
from jaxtyping import UInt8  # noqa: E402

from blocknerf.capture.capture import Capture, read_capture  # noqa: E402
from blocknerf.city.appearance import exposure_for_block  # noqa: E402
from blocknerf.city.appearance_presets import interpolate_exposure, interpolate_presets  # noqa: E402
from blocknerf.city.matching import STEPS  # noqa: E402
from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.files import read_json  # noqa: E402
from blocknerf.images import to_uint8, write_image  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from pipelines.match import match  # noqa: E402
from pipelines.training_log import training_downscale  # noqa: E402
from tests.benchmarks.matching import measure  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, publish  # noqa: E402
from tests.benchmarks.paper.strips import stacked  # noqa: E402

PICTURES = 6


def rows_of(seams: Sequence[dict[str, Any]], half: Sequence[float]) -> list[dict[str, Any]]:
    """The rows of the result: means over seams and lights, and every seam's own."""
    found = []
    for name in ("seam_before", "seam_after"):
        values = [seam[name] for seam in seams]
        found.append({"name": name, "difference": mean(values), "largest": max(values), "seams": values})
    found[1] |= {
        "times_less": found[0]["difference"] / found[1]["difference"],
        "same_light": mean(seam["same_light"] for seam in seams),
    }
    return [found[0], found[1] | ({"half_way": mean(half), "half_way_largest": max(half)} if half else {})]


def day_passing(run: RunFolder, segments: tuple[str, str], steps: int = STEPS) -> UInt8[np.ndarray, "total width 3"]:
    """Pictures from one light to another, each half by one block and half by its neighbor."""
    first, last = (
        match(run.path, appearance=segment.rsplit("_", 1)[-1], reference=segment, steps=steps) for segment in segments
    )
    capture, renderer = read_capture(run.capture), CityRenderer(run)
    place = half_way_place(capture, renderer)
    view = capture.cameras()[place].scaled(1.0 / training_downscale(run))
    names = [use.name for use in sorted(renderer.select(view), key=lambda use: -use.weight)[:2]]
    middle, pictures = int(view.width) // 2, []
    for share in np.linspace(0.0, 1.0, PICTURES).tolist():
        codes, exposure = (
            interpolate_presets(first, last, share),
            interpolate_exposure(first.exposure, last.exposure, share),
        )
        blocks = {name: renderer.cache.get(name) for name in names}
        left, right = (
            render_image(
                block.field,
                block.to_block_frame(view).generate_rays(0),
                codes[name],
                exposure_for_block(block.field, exposure),
            ).color
            for name, block in blocks.items()
        )
        pictures.append(np.concatenate([to_uint8(left)[:, :middle], to_uint8(right)[:, middle:]], 1))
    half = len(pictures) // 2
    columns = [stacked(pictures[:half]), stacked(pictures[half:])]
    return np.concatenate(columns, 1)


def half_way_place(capture: Capture, renderer: CityRenderer) -> int:
    """The photograph that two blocks share most evenly; among equals the first."""

    cameras = capture.cameras()

    def second(index: int) -> float:
        weights = sorted(use.weight for use in renderer.select(cameras[index]))
        return weights[-2] if len(weights) > 1 else 0.0

    forward = [i for i, frame in enumerate(capture.frames) if frame.camera == "forward"]
    return max(forward or range(len(capture)), key=second)


def main() -> None:
    """Print the table and one line of JSON, and write result and picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--day", nargs=2, default=["drive0_noon", "drive1_dusk"], metavar="SEGMENT")
    parser.add_argument("--out", type=Path, default=RESULTS / "matching.json")
    options = parser.parse_args()
    run = RunFolder(options.run)
    seams, half = measure(run, options.steps)
    rows = rows_of(seams, half)
    record = read_json(run.train_summary(run.trained_blocks()[0]), "training record")["config"]
    publish(
        "matching",
        options.out,
        ("name", "difference", "largest", "times_less", "same_light", "half_way"),
        rows,
        seeds=[record["seed"]],
        settings={"steps": options.steps, "training_steps": record["steps"], "day": options.day},
    )
    write_image(options.out.with_name("day.jpg"), day_passing(run, tuple(options.day), options.steps))


if __name__ == "__main__":
    main()
