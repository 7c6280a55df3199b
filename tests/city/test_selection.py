"""Block index: matches a slow oracle, continuous, at a cost independent of the city size."""

import itertools
import math
import random

import pytest

from blocknerf.city.selection import BlockIndex, horizontal_distance, range_falloff, smoothstep, visibility_falloff
from blocknerf.partitioning.block import Block


def scatter(count: int, seed: int) -> list[Block]:
    """Return random blocks of very different sizes, two of them at one origin."""
    rng = random.Random(seed)
    origins = [(rng.uniform(0, 100), rng.uniform(0, 100), rng.uniform(-5, 5)) for _ in range(count)]
    origins[1] = origins[0]
    return [Block(name=f"b{i}", origin=origin, radius=10 ** rng.uniform(-0.5, 1.5)) for i, origin in enumerate(origins)]


@pytest.mark.parametrize("seed", range(20))
def test_candidates_match_a_linear_search(seed: int) -> None:
    blocks, rng = scatter(60, seed), random.Random(seed + 100)
    position = (rng.uniform(-20, 120), rng.uniform(-20, 120), 30.0)
    distances = {block.name: horizontal_distance(position, block) for block in blocks}
    in_range = {block.name for block in blocks if distances[block.name] < 1.5 * block.radius}
    nearest = min(distances.values())
    candidates = BlockIndex(blocks).within_radius(position, 1.5)
    outside = {candidate.block.name for candidate in candidates} - in_range
    assert in_range <= {candidate.block.name for candidate in candidates}
    assert len(outside) <= 1
    assert candidates[0].distance == nearest
    assert [candidate.distance for candidate in candidates] == sorted(candidate.distance for candidate in candidates)
    assert all((candidate.selection_weight > 0.0) == (candidate.block.name in in_range) for candidate in candidates)


def test_blocks_are_sorted_by_distance_without_duplicates() -> None:
    blocks = [
        Block(name=f"b{x}{y}", origin=(float(x), float(y), 0.0), radius=1.0 + x) for x in range(9) for y in range(9)
    ]
    ranked = list(BlockIndex(blocks).nearest_first((4.0, 4.0, 0.0), 1.5))
    assert sorted(candidate.block.name for candidate in ranked) == sorted(block.name for block in blocks)
    assert all(a.distance <= b.distance for a, b in itertools.pairwise(ranked))


def test_height_is_ignored() -> None:
    index = BlockIndex([Block(name="b0", origin=(0.0, 0.0, 0.0), radius=1.0)])
    (candidate,) = index.within_radius((0.3, 0.4, 500.0), 1.5)
    assert candidate.distance == pytest.approx(0.5)
    assert candidate.selection_weight == 1.0


def test_distant_camera_gets_the_nearest_block_out_of_range(route) -> None:
    (candidate,) = BlockIndex(route(5).blocks).within_radius((500.0, 0.0, 0.0), 1.5)
    assert (candidate.block.name, candidate.selection_weight) == ("b004", 0.0)


def test_number_of_candidates_is_independent_of_city_size(grid) -> None:
    small, large = BlockIndex(grid(10).blocks), BlockIndex(grid(100).blocks)
    for x, y in ((45.0, 45.0), (51.0, 38.0)):
        distances = [candidate.distance for candidate in large.within_radius((x, y, 0.0), 1.5)]
        assert distances == [candidate.distance for candidate in small.within_radius((x, y, 0.0), 1.5)]
        assert len(distances) < 12


def test_large_block_does_not_widen_the_search(grid) -> None:
    huge = Block(name="huge", origin=(500.0, 500.0, 0.0), radius=5000.0)
    candidates = BlockIndex([*grid(100).blocks, huge]).within_radius((500.0, 500.0, 0.0), 1.5)
    assert len(candidates) < 12
    assert "huge" in {candidate.block.name for candidate in candidates}


@pytest.mark.parametrize("falloff", [range_falloff, lambda visibility: visibility_falloff(visibility, 0.1)])
def test_falloffs_are_continuous(falloff) -> None:
    values = [falloff(i / 4000) for i in range(8000)]
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) < 0.005
    assert {min(values), max(values)} == {0.0, 1.0}


def test_falloffs_are_monotonic() -> None:
    near_to_far = [range_falloff(i / 100) for i in range(150)]
    dark_to_bright = [visibility_falloff(i / 100, 0.2) for i in range(100)]
    assert near_to_far == sorted(near_to_far, reverse=True)
    assert dark_to_bright == sorted(dark_to_bright)


def test_unknown_visibility_and_threshold_zero_cull_nothing() -> None:
    assert visibility_falloff(None, 0.3) == 1.0
    assert visibility_falloff(0.0, 0.0) == 1.0


def test_smoothstep_is_flat_at_both_ends() -> None:
    assert smoothstep(1e-4) < 1e-6
    assert 1.0 - smoothstep(1.0 - 1e-4) < 1e-6
    assert (smoothstep(-3.0), smoothstep(7.0), smoothstep(math.inf)) == (0.0, 1.0, 1.0)
