"""Cost and benefit of the selection radius: the experiment behind the default of 1.25 block radii.

    python tests/benchmarks/selection_radius.py

A camera moves in a straight line along a route and over a hexagonal lattice of blocks one radius apart (50 % overlap).
For each selection radius: candidate and rendered blocks per frame, and the maximum change of blend weights per step of
a hundredth of a radius.
"""

import json
import math

import torch

from blocknerf.city.renderer import MAX_BLOCKS
from blocknerf.city.selection import BlockIndex
from blocknerf.city.weighting import blend_with_fallback, fallback_confidence, inverse_distance_weights, keep_top_k
from blocknerf.partitioning.block import Block

STEP = 0.01


def line_of_blocks() -> list[Block]:
    return [Block(name=f"b{i}", origin=(float(i), 0.0, 0.0), radius=1.0) for i in range(24)]


def lattice_of_blocks() -> list[Block]:
    origins = [(x + 0.5 * (y % 2), y * math.sqrt(3) / 2) for x in range(24) for y in range(24)]
    return [Block(name=f"b{i}", origin=(x, y, 0.0), radius=1.0) for i, (x, y) in enumerate(origins)]


def fly(blocks: list[Block], direction: float, selection_radius: float, power: float) -> tuple[float, float, float]:
    """Return mean candidates, mean rendered blocks, and the maximum change of weights between steps."""
    index, before, candidates, rendered, change = BlockIndex(blocks), None, 0, 0, 0.0
    steps = int(4.0 / STEP)
    for i in range(steps):
        x = 8.0 + STEP * i
        blocks_in_range = index.within_radius((x, 0.1 + direction * x, 0.0), selection_radius)
        selection_weights = torch.tensor([candidate.selection_weight for candidate in blocks_in_range])
        blend = inverse_distance_weights(
            torch.tensor([candidate.distance for candidate in blocks_in_range]), selection_weights, power
        )
        weights = keep_top_k(blend_with_fallback(blend, fallback_confidence(selection_weights.tolist()), 0), MAX_BLOCKS)
        now = {candidate.block.name: float(weight) for candidate, weight in zip(blocks_in_range, weights, strict=True)}
        if before is not None:
            changes = [abs(now.get(name, 0.0) - before.get(name, 0.0)) for name in now | before]
            change = max(change, sum(changes) / 2)
        before, candidates = now, candidates + len(blocks_in_range)
        rendered += sum(weight > 0.0 for weight in now.values())
    return candidates / steps, rendered / steps, change


def main() -> None:
    rows = []
    print("placement  power  radius  candidates  rendered  max weight change per step")
    for placement, blocks, direction in (("route", line_of_blocks(), 0.0), ("grid", lattice_of_blocks(), 0.61)):
        for power in (1.0, 4.0):
            for radius in (0.75, 1.0, 1.25, 1.5, 2.0, 3.0):
                candidates, rendered, change = fly(blocks, direction, radius, power)
                row = f"{placement:9}  {power:5.0f}  {radius:6.2f}  {candidates:10.2f}  {rendered:8.2f}"
                print(f"{row}  {100 * change:25.1f} %")
                rows.append([placement, power, radius, round(candidates, 3), round(rendered, 3), round(change, 4)])
    print(json.dumps({"benchmark": "selection_radius", "rows": rows}))


if __name__ == "__main__":
    main()
