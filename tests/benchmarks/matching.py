"""Effect of appearance matching: color difference between blocks in their overlaps, before and after.

    python -m tests.benchmarks.matching RUN [--steps 80]

For every segment of the capture: unmatched blocks have mean codes of segments that differ between neighbors, as if
blocks were trained on different segments; matched codes are optimized from those, starting at the reference block with
its code of the segment. `same_segment` uses every block's own mean code of the segment: the remaining difference is not
appearance, and no code can remove it. Finally, the difference halfway between two matched presets, as in a video that
blends them. Views are held out from the fit; colors are compared in tiles of 8x8 pixels and in single pixels.
"""

import argparse
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

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
    parser.add_argument("--steps", type=int, default=STEPS, help="optimization steps per block")
    options = parser.parse_args()
    rows, half = measure(RunFolder(options.run), options.steps)
    report(rows, half, options.steps)


def measure(folder: RunFolder, steps: int) -> tuple[list[dict[str, Any]], list[float]]:
    """Return the difference at every overlap for every segment, and halfway between any two matched presets."""
    graph = BlockGraph(folder, read_city(folder.city))
    overlaps, segments = graph.overlaps(), list(graph.capture.segments)
    mean_codes = [graph.unmatched_codes(AppearanceReference(frame=None, segment=segment)) for segment in segments]
    rows, presets = [], []
    for number, segment in enumerate(segments):
        reference = AppearanceReference(frame=None, segment=segment)
        reference_block, *_ = graph.reference_blocks(reference, overlaps)
        unmatched = {
            name: mean_codes[(number + hops) % len(segments)][name]
            for name, hops in hop_counts(overlaps, reference_block).items()
        }
        exposure = graph.exposure(reference, reference_block)
        starts = {name: [code] for name, code in unmatched.items()}
        known = {reference_block: unmatched[reference_block]}
        matches = match_codes(overlaps, graph.field, known, starts.__getitem__, exposure, steps=steps)
        matched = known | {match.name: match.code for match in matches}
        presets.append(graph.preset(reference, reference_block, exposure, matched))
        for overlap in overlaps:
            if reference_block in hop_counts(overlaps, overlap.blocks[0]):
                row = compare(graph, overlap, (unmatched, matched, mean_codes[number]), exposure)
                rows.append({"segment": segment, "overlap": " - ".join(overlap.blocks), **row})
    return rows, halfway(graph, overlaps, presets)


def compare(
    graph: BlockGraph, overlap: BlockOverlap, codes: tuple[Mapping[str, Tensor], ...], exposure: float | None
) -> dict[str, float]:
    """Return the differences at an overlap in tiles and pixels: unmatched, matched, and with mean codes."""
    tiles, pixels = (
        [color_difference(overlap, graph.field, variant, exposure, average_tiles=average) for variant in codes]
        for average in (True, False)
    )
    return {
        "unmatched": tiles[0],
        "matched": tiles[1],
        "same_segment": tiles[2],
        "ratio": tiles[0] / tiles[1],
        "pixels_unmatched": pixels[0],
        "pixels_matched": pixels[1],
    }


def halfway(graph: BlockGraph, overlaps: list[BlockOverlap], presets: list[Any]) -> list[float]:
    """Return the difference at each overlap halfway between any two presets."""
    differences = []
    for first, second in combinations(presets, 2):
        exposure = interpolate_exposure(first.exposure, second.exposure, 0.5)
        codes = interpolate_presets(first, second, 0.5)
        common = [overlap for overlap in overlaps if set(overlap.blocks) <= codes.keys()]
        differences += [color_difference(overlap, graph.field, codes, exposure) for overlap in common]
    return differences


def report(rows: list[dict[str, Any]], half: list[float], steps: int) -> None:
    print(
        f"{'segment':<20}{'overlap':<14}{'before':>8}{'after':>8}{'ratio':>7}{'same segment':>14}"
        f"{'pixels: before':>16}{'after':>8}"
    )
    for row in rows:
        print(
            "{segment:<20}{overlap:<14}{unmatched:8.4f}{matched:8.4f}{ratio:7.1f}{same_segment:14.4f}"
            "{pixels_unmatched:16.4f}{pixels_matched:8.4f}".format(**row)
        )
    before, after = (mean(row[key] for row in rows) for key in ("unmatched", "matched"))
    print(f"mean: {before:.4f} before, {after:.4f} after; ratio {before / after:.1f}, required: {REQUIRED_RATIO}")
    if half:
        print(f"halfway between two matched presets: mean {mean(half):.4f}, maximum {max(half):.4f}")
    record = {"unmatched": before, "matched": after, "ratio": before / after, "halfway": half}
    print(json.dumps({"benchmark": "matching", "steps": steps, **record, "rows": rows}))


if __name__ == "__main__":
    main()
