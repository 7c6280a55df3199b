"""Effect of appearance matching on the overlaps of a trained run, as a result file, and a figure of blended presets.

    python -m tests.benchmarks.paper.matching RUN [--steps 80] [--blend drive0_noon drive1_dusk] [--out FILE]

The measure is that of `tests.benchmarks.matching`: `unmatched` is the color difference between neighbors with codes of
different segments, `matched` that of matched codes, both in views held out from matching; `same_segment` is that of
blocks with their own mean codes of one segment: differences other than appearance. The figure blends from the
appearance of one segment to that of another. The left half of each rendering is of one block and the right half of its
neighbor, at a position between them: a mismatch would be visible at the center of every rendering.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

import numpy as np  # noqa: E402
from jaxtyping import UInt8  # noqa: E402

from blocknerf.capture.capture import Capture  # noqa: E402
from blocknerf.capture.capture_file import read_capture  # noqa: E402
from blocknerf.city.appearance import exposure_for_block  # noqa: E402
from blocknerf.city.appearance_presets import interpolate_exposure, interpolate_presets  # noqa: E402
from blocknerf.city.matching import STEPS  # noqa: E402
from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.images import to_uint8, write_image  # noqa: E402
from blocknerf.json_file import read_json  # noqa: E402
from blocknerf.rendering.image import render_image  # noqa: E402
from pipelines.match import match  # noqa: E402
from pipelines.training_log import training_downscale  # noqa: E402
from tests.benchmarks.matching import measure  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, publish  # noqa: E402
from tests.benchmarks.paper.strips import stack_vertically  # noqa: E402

NUM_BLENDS = 6


def result_rows(overlaps: Sequence[dict[str, Any]], half: Sequence[float]) -> list[dict[str, Any]]:
    """Return the rows of the result: means over overlaps and segments, and all values."""
    rows = []
    for name in ("unmatched", "matched"):
        values = [overlap[name] for overlap in overlaps]
        rows.append({"name": name, "difference": mean(values), "maximum": max(values), "overlaps": values})
    rows[1] |= {
        "ratio": rows[0]["difference"] / rows[1]["difference"],
        "same_segment": mean(overlap["same_segment"] for overlap in overlaps),
    }
    return [rows[0], rows[1] | ({"halfway": mean(half), "halfway_maximum": max(half)} if half else {})]


def blend_figure(run: RunFolder, segments: tuple[str, str], steps: int = STEPS) -> UInt8[np.ndarray, "total width 3"]:
    """Return renderings from one appearance to another, each half by one block and half by its neighbor."""
    first, last = (
        match(run.path, appearance=segment.rsplit("_", 1)[-1], reference=segment, steps=steps) for segment in segments
    )
    capture, renderer = read_capture(run.capture), CityRenderer(run)
    index = shared_frame(capture, renderer)
    view = capture.cameras()[index].scaled(1.0 / training_downscale(run))
    names = [use.name for use in sorted(renderer.select(view), key=lambda use: -use.weight)[:2]]
    center, renderings = int(view.width) // 2, []
    for weight in np.linspace(0.0, 1.0, NUM_BLENDS).tolist():
        codes, exposure = (
            interpolate_presets(first, last, weight),
            interpolate_exposure(first.exposure, last.exposure, weight),
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
        renderings.append(np.concatenate([to_uint8(left)[:, :center], to_uint8(right)[:, center:]], 1))
    half = len(renderings) // 2
    columns = [stack_vertically(renderings[:half]), stack_vertically(renderings[half:])]
    return np.concatenate(columns, 1)


def shared_frame(capture: Capture, renderer: CityRenderer) -> int:
    """Return the frame in which the second-largest block weight is largest; the first among equals."""
    cameras = capture.cameras()

    def second_weight(index: int) -> float:
        weights = sorted(use.weight for use in renderer.select(cameras[index]))
        return weights[-2] if len(weights) > 1 else 0.0

    forward = [i for i, frame in enumerate(capture.frames) if frame.camera == "forward"]
    return max(forward or range(len(capture)), key=second_weight)


def main() -> None:
    """Print the table and one line of JSON, and write the result and the figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--blend", nargs=2, default=["drive0_noon", "drive1_dusk"], metavar="SEGMENT")
    parser.add_argument("--out", type=Path, default=RESULTS / "matching.json")
    options = parser.parse_args()
    run = RunFolder(options.run)
    overlaps, half = measure(run, options.steps)
    rows = result_rows(overlaps, half)
    record = read_json(run.train_summary(run.trained_blocks()[0]), "training record")["config"]
    publish(
        "matching",
        options.out,
        ("name", "difference", "maximum", "ratio", "same_segment", "halfway"),
        rows,
        seeds=[record["seed"]],
        settings={"steps": options.steps, "training_steps": record["steps"], "blend": options.blend},
    )
    write_image(options.out.with_name("blend.jpg"), blend_figure(run, tuple(options.blend), options.steps))


if __name__ == "__main__":
    main()
