"""Finding the blocks around a camera: against a slow oracle, without jumps, at a cost the city does not raise."""

import itertools
import math
import random

import pytest

from blocknerf.city.selection import BlockIndex, horizontal_distance, range_falloff, smoothstep, visibility_falloff
from blocknerf.partition.block import Block


def scatter(count: int, seed: int) -> list[Block]:
    """Blocks of very different sizes at random, some of them on one spot."""
    draw = random.Random(seed)
    places = [(draw.uniform(0, 100), draw.uniform(0, 100), draw.uniform(-5, 5)) for _ in range(count)]
    places[1] = places[0]
    return [Block(name=f"b{i}", origin=place, radius=10 ** draw.uniform(-0.5, 1.5)) for i, place in enumerate(places)]


@pytest.mark.parametrize("seed", range(20))
def test_candidates_are_those_of_a_search_through_all(seed: int) -> None:
    blocks, draw = scatter(60, seed), random.Random(seed + 100)
    position = (draw.uniform(-20, 120), draw.uniform(-20, 120), 30.0)
    distances = {block.name: horizontal_distance(position, block) for block in blocks}
    wanted = {block.name for block in blocks if distances[block.name] < 1.5 * block.radius}
    nearest = min(distances.values())
    found = BlockIndex(blocks).within_radius(position, 1.5)
    outside = {each.block.name for each in found} - wanted
    assert wanted <= {each.block.name for each in found}
    assert len(outside) <= 1
    assert found[0].distance == nearest
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    assert all((each.selection_weight > 0.0) == (each.block.name in wanted) for each in found)


def test_blocks_come_by_distance_each_once() -> None:
    blocks = [
        Block(name=f"b{x}{y}", origin=(float(x), float(y), 0.0), radius=1.0 + x) for x in range(9) for y in range(9)
    ]
    ranked = list(BlockIndex(blocks).nearest_first((4.0, 4.0, 0.0), 1.5))
    assert sorted(each.block.name for each in ranked) == sorted(block.name for block in blocks)
    assert all(a.distance <= b.distance for a, b in itertools.pairwise(ranked))


def test_height_does_not_count() -> None:
    index = BlockIndex([Block(name="b0", origin=(0.0, 0.0, 0.0), radius=1.0)])
    (found,) = index.within_radius((0.3, 0.4, 500.0), 1.5)
    assert found.distance == pytest.approx(0.5)
    assert found.selection_weight == 1.0


def test_a_camera_far_from_all_blocks_gets_the_nearest_though_it_is_out_of_range(route) -> None:
    (found,) = BlockIndex(route(5).blocks).within_radius((500.0, 0.0, 0.0), 1.5)
    assert (found.block.name, found.selection_weight) == ("b004", 0.0)


def test_candidates_do_not_grow_with_the_city(grid) -> None:
    small, large = BlockIndex(grid(10).blocks), BlockIndex(grid(100).blocks)
    for x, y in ((45.0, 45.0), (51.0, 38.0)):
        names = [each.distance for each in large.within_radius((x, y, 0.0), 1.5)]
        assert names == [each.distance for each in small.within_radius((x, y, 0.0), 1.5)]
        assert len(names) < 12


def test_one_large_block_does_not_widen_the_search_among_small_ones(grid) -> None:
    huge = Block(name="huge", origin=(500.0, 500.0, 0.0), radius=5000.0)
    found = BlockIndex([*grid(100).blocks, huge]).within_radius((500.0, 500.0, 0.0), 1.5)
    assert len(found) < 12
    assert "huge" in {each.block.name for each in found}


@pytest.mark.parametrize("presence", [range_falloff, lambda share: visibility_falloff(share, 0.1)])
def test_presence_has_no_jump(presence) -> None:
    values = [presence(i / 4000) for i in range(8000)]
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) < 0.005
    assert {min(values), max(values)} == {0.0, 1.0}


def test_presence_is_monotone() -> None:
    near_to_far = [range_falloff(i / 100) for i in range(150)]
    dark_to_bright = [visibility_falloff(i / 100, 0.2) for i in range(100)]
    assert near_to_far == sorted(near_to_far, reverse=True)
    assert dark_to_bright == sorted(dark_to_bright)


def test_unknown_visibility_and_threshold_zero_cull_nothing() -> None:
    assert visibility_falloff(None, 0.3) == 1.0
    assert visibility_falloff(0.0, 0.0) == 1.0


def test_smooth_step_is_flat_at_both_ends() -> None:
    assert smoothstep(1e-4) < 1e-6
    assert 1.0 - smoothstep(1.0 - 1e-4) < 1e-6
    assert (smoothstep(-3.0), smoothstep(7.0), smoothstep(math.inf)) == (0.0, 1.0, 1.0)
