"""What the selection radius costs and buys: the experiment behind the default of 1.25 block radii.

    python tests/benchmarks/selection_radius.py

A camera flies in a straight line over a route and over a hexagonal lattice of blocks one radius apart (the
placements' 50 % overlap). For each selection radius: blocks looked at and rendered a picture, and how much
of the picture changes hands at most while the camera moves by a hundredth of a radius.
"""

import json
import math

import torch

from blocknerf.city.compositing import blend_with_fallback, fallback_confidence, keep_top_k
from blocknerf.city.renderer import MAX_BLOCKS
from blocknerf.city.selection import BlockIndex
from blocknerf.city.weighting import inverse_distance_weights
from blocknerf.partition.block import Block

STEP = 0.01


def line_of_blocks() -> list[Block]:
    return [Block(name=f"b{i}", origin=(float(i), 0.0, 0.0), radius=1.0) for i in range(24)]


def lattice_of_blocks() -> list[Block]:
    places = [(x + 0.5 * (y % 2), y * math.sqrt(3) / 2) for x in range(24) for y in range(24)]
    return [Block(name=f"b{i}", origin=(x, y, 0.0), radius=1.0) for i, (x, y) in enumerate(places)]


def fly(blocks: list[Block], slope: float, selection_radius: float, power: float) -> tuple[float, float, float]:
    """Mean candidates, mean blocks rendered, and the largest change of weights between steps."""
    index, before, candidates, rendered, change = BlockIndex(blocks), None, 0, 0, 0.0
    steps = int(4.0 / STEP)
    for i in range(steps):
        x = 8.0 + STEP * i
        found = index.within_radius((x, 0.1 + slope * x, 0.0), selection_radius)
        presence = torch.tensor([each.selection_weight for each in found])
        shares = inverse_distance_weights(torch.tensor([each.distance for each in found]), presence, power)
        weights = keep_top_k(blend_with_fallback(shares, fallback_confidence(presence), 0), MAX_BLOCKS)
        now = {each.block.name: float(weight) for each, weight in zip(found, weights, strict=True)}
        if before is not None:
            moved = [abs(now.get(name, 0.0) - before.get(name, 0.0)) for name in now | before]
            change = max(change, sum(moved) / 2)
        before, candidates = now, candidates + len(found)
        rendered += sum(weight > 0.0 for weight in now.values())
    return candidates / steps, rendered / steps, change


def main() -> None:
    rows = []
    print("placement  power  radius  looked at  rendered  largest change of hands a step")
    for placement, blocks, slope in (("route", line_of_blocks(), 0.0), ("grid", lattice_of_blocks(), 0.61)):
        for power in (1.0, 4.0):
            for radius in (0.75, 1.0, 1.25, 1.5, 2.0, 3.0):
                looked, used, change = fly(blocks, slope, radius, power)
                print(f"{placement:9}  {power:5.0f}  {radius:6.2f}  {looked:9.2f}  {used:8.2f}  {100 * change:29.1f} %")
                rows.append([placement, power, radius, round(looked, 3), round(used, 3), round(change, 4)])
    print(json.dumps({"benchmark": "selection_radius", "rows": rows}))


if __name__ == "__main__":
    main()
