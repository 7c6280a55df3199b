"""What matching does to the seams of a run: the difference in color between blocks where they meet.

    python -m tests.benchmarks.matching RUN [--steps 80]

For every light of the capture (a segment each): unmatched, blocks have their own mean codes of lights that differ from
one block to the next, as where blocks were trained on different drives; matched, the codes are found from the middle
block's code of that light, beginning at those others. Beside it, each block's own mean code of one light: what is left
there is no difference of light, and no code can close it. Then how far neighbors are apart half way from one matched
light to another, as in a film of a day passing. Views are other ones than codes are fitted in; colors are compared in
tiles of 8x8 pixels, and for what detail leaves in single pixels.
"""

import argparse
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

from torch import Tensor  # noqa: E402

from blocknerf.city.appearance_presets import interpolate_exposure, interpolate_presets  # noqa: E402
from blocknerf.city.manifest import read_city  # noqa: E402
from blocknerf.city.matching import STEPS, hop_counts, match_codes  # noqa: E402
from blocknerf.city.overlaps import BlockOverlap, color_difference  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from pipelines.block_graph import AppearanceReference, BlockGraph  # noqa: E402

REQUIRED_RATIO = 5.0


def main() -> None:
    """Print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run of two blocks or more")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the search for a block's code")
    options = parser.parse_args()
    rows, half = measure(RunFolder(options.run), options.steps)
    report(rows, half, options.steps)


def measure(folder: RunFolder, steps: int) -> tuple[list[dict[str, Any]], list[float]]:
    """The difference at every seam in every light before and after, and half way between any two matched lights."""
    meetings = BlockGraph(folder, read_city(folder.city))
    seams, lights = meetings.overlaps(), list(meetings.capture.segments)
    own = [meetings.unmatched_codes(AppearanceReference(frame=None, segment=light)) for light in lights]
    rows, looks = [], []
    for number, light in enumerate(lights):
        source = AppearanceReference(frame=None, segment=light)
        root, *_ = meetings.reference_blocks(source, seams)
        apart = {name: own[(number + away) % len(lights)][name] for name, away in hop_counts(seams, root).items()}
        exposure = meetings.exposure(source, root)
        starts = {name: [code] for name, code in apart.items()}
        known = {root: apart[root]}
        found = match_codes(seams, meetings.field, known, starts.__getitem__, exposure, steps=steps)
        matched = known | {each.name: each.code for each in found}
        looks.append(meetings.preset(source, root, exposure, matched))
        for seam in seams:
            if root in hop_counts(seams, seam.blocks[0]):
                row = compare(meetings, seam, (apart, matched, own[number]), exposure)
                rows.append({"light": light, "seam": " - ".join(seam.blocks), **row})
    return rows, half_way(meetings, seams, looks)


def compare(
    meetings: BlockGraph, seam: BlockOverlap, codes: tuple[Mapping[str, Tensor], ...], exposure: float | None
) -> dict[str, float]:
    """The difference at a seam, in tones and in pixels: unmatched, matched, and in one light as each learned it."""
    tones, pixels = (
        [color_difference(seam, meetings.field, each, exposure, tones=tones) for each in codes]
        for tones in (True, False)
    )
    return {
        "seam_before": tones[0],
        "seam_after": tones[1],
        "same_light": tones[2],
        "ratio": tones[0] / tones[1],
        "pixels_before": pixels[0],
        "pixels_after": pixels[1],
    }


def half_way(meetings: BlockGraph, seams: list[BlockOverlap], looks: list[Any]) -> list[float]:
    """The difference at each seam in the middle between any two looks."""
    found = []
    for first, second in combinations(looks, 2):
        exposure = interpolate_exposure(first.exposure, second.exposure, 0.5)
        codes = interpolate_presets(first, second, 0.5)
        pairs = [seam for seam in seams if set(seam.blocks) <= codes.keys()]
        found += [color_difference(seam, meetings.field, codes, exposure) for seam in pairs]
    return found


def report(rows: list[dict[str, Any]], half: list[float], steps: int) -> None:
    print(
        f"{'light':<20}{'seam':<14}{'before':>8}{'after':>8}{'ratio':>7}{'same light':>12}"
        f"{'pixels: before':>16}{'after':>8}"
    )
    for row in rows:
        print(
            "{light:<20}{seam:<14}{seam_before:8.4f}{seam_after:8.4f}{ratio:7.1f}{same_light:12.4f}"
            "{pixels_before:16.4f}{pixels_after:8.4f}".format(**row)
        )
    before, after = (mean(row[key] for row in rows) for key in ("seam_before", "seam_after"))
    print(f"mean: {before:.4f} before, {after:.4f} after; {before / after:.1f} times less, required: {REQUIRED_RATIO}")
    if half:
        print(f"half way between two matched lights: {mean(half):.4f} on average, {max(half):.4f} at most")
    record = {"seam_before": before, "seam_after": after, "ratio": before / after, "half_way": half}
    print(json.dumps({"benchmark": "matching", "steps": steps, **record, "rows": rows}))


if __name__ == "__main__":
    main()
