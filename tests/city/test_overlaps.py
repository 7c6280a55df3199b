"""Overlaps of blocks, and the views in which they can be compared."""

import itertools
import math

import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras
from blocknerf.city import overlaps
from blocknerf.city.manifest import City
from blocknerf.city.overlaps import adjacent_blocks, candidate_views, color_difference, find_overlaps, overlap_center
from blocknerf.partitioning.block import Block
from blocknerf.rendering.rays import render_rays

WALL = ((6.0, -20.0, -1.0), (7.0, 20.0, 12.0))


def pairs(city: City) -> list[tuple[str, str]]:
    return [(first.name, second.name) for first, second in adjacent_blocks(city.blocks)]


def test_route_blocks_are_adjacent_to_the_next_one(route) -> None:
    assert pairs(route(4)) == [("b000", "b001"), ("b001", "b002"), ("b002", "b003")]


def test_lattice_blocks_have_six_neighbors(grid) -> None:
    adjacent = pairs(grid(5))
    center_pairs = [pair for pair in adjacent if "b00012" in pair]
    assert len(center_pairs) == 6


def test_block_in_a_bend_separates_its_neighbors() -> None:
    blocks = [
        Block(name="a", origin=(0.0, 0.0, 0.0), radius=10.0),
        Block(name="b", origin=(8.0, 6.0, 0.0), radius=10.0),
        Block(name="c", origin=(8.0, 16.0, 0.0), radius=10.0),
    ]
    assert pairs(City(blocks=tuple(blocks))) == [("a", "b"), ("b", "c")]
    outer = [blocks[0], blocks[2]]
    assert pairs(City(blocks=tuple(outer))) == [("a", "c")], "without the block between them they are adjacent"


def test_distant_blocks_are_not_adjacent() -> None:
    blocks = (Block(name="a", origin=(0.0, 0.0, 0.0), radius=3.0), Block(name="b", origin=(7.0, 0.0, 9.0), radius=3.0))
    assert pairs(City(blocks=blocks)) == []


def test_adjacent_blocks_are_those_of_comparing_all_triples() -> None:
    generator = np.random.default_rng(0)
    blocks = [
        Block(name=f"b{i}", origin=(x, y, 0.0), radius=radius)
        for i, (x, y, radius) in enumerate(generator.uniform([0, 0, 5], [100, 100, 20], (40, 3)).tolist())
    ]

    def overlap(a: Block, b: Block) -> bool:
        return math.dist(a.origin, b.origin) < 0.99 * (a.radius + b.radius)

    def is_between(block: Block, a: Block, b: Block) -> bool:
        to_a, to_b = (np.subtract(other.origin, block.origin) for other in (a, b))
        return to_a @ to_b < 0 and overlap(block, a) and overlap(block, b)

    expected = [
        (a.name, b.name)
        for a, b in itertools.combinations(blocks, 2)
        if overlap(a, b) and not any(is_between(block, a, b) for block in blocks if block not in (a, b))
    ]
    assert pairs(City(blocks=tuple(blocks))) == expected


def test_overlap_center_of_identical_blocks() -> None:
    twin = Block(name="a", origin=(1.0, 2.0, 3.0), radius=3.0)
    assert overlap_center(twin, twin) == (1.0, 2.0)


def test_overlap_center_of_unequal_blocks() -> None:
    large = Block(name="a", origin=(0.0, 0.0, 0.0), radius=10.0)
    assert overlap_center(large, Block(name="b", origin=(0.0, 12.0, 5.0), radius=4.0)) == (0.0, 9.0)
    assert overlap_center(large, Block(name="b", origin=(4.0, 0.0, 0.0), radius=2.0)) == (4.0, 0.0)


def make_cameras(eyes: list[tuple[float, float, float]], view) -> Cameras:
    return Cameras.cat([view(eye, (eye[0] + 5.0, 1.0, 1.0), size=160) for eye in eyes])


def test_candidates_are_small_views_near_the_point(view) -> None:
    cameras = make_cameras([(0.5 * i, 0.0, 1.5) for i in range(400)], view)
    views = candidate_views((40.0, 3.0), cameras)
    assert len(views) == overlaps.CANDIDATES
    assert max(int(views.width.max()), int(views.height.max())) == overlaps.VIEW_SIDE
    max_offset = float((views.centers[:, 0] - 40.0).abs().max())
    assert (
        0.9 * overlaps.CANDIDATES * overlaps.CANDIDATE_STRIDE / 4
        < max_offset
        <= overlaps.CANDIDATES * overlaps.CANDIDATE_STRIDE / 4
    )
    assert len(candidate_views((0.0, 0.0), cameras[:3])) == 3


def block_cameras(view, count: int = 6) -> dict[str, Cameras]:
    cameras = make_cameras([(2.0 + i, 0.0, 1.5) for i in range(count)], view)
    return {"b000": cameras, "b001": cameras}


def test_overlap_compares_both_blocks(street_scene, route, view) -> None:
    scenes = {f"b{i:03d}": street_scene(tint=0.05 * i) for i in range(2)}
    (overlap,) = find_overlaps(adjacent_blocks(route(2).blocks), block_cameras(view), scenes.__getitem__)
    assert overlap.blocks == ("b000", "b001")
    assert overlap.other("b001") == "b000"
    assert 0.2 < overlap.visibility <= 1.0
    for rays in (overlap.fit_rays, overlap.eval_rays):
        assert float(rays.weights.sum()) == pytest.approx(1.0)
        assert len(rays.rays) == len(rays.weights) == 3 * 40 * 40
        assert rays.tile_index.unique().tolist() == list(range(3 * 25))
    positions = [set(rays.rays.origins[:, 0].tolist()) for rays in (overlap.fit_rays, overlap.eval_rays)]
    assert [len(x) for x in positions] == [3, 3]
    assert not positions[0] & positions[1], "the evaluation views differ from those the codes are fitted in"
    codes = {"b000": torch.zeros(3), "b001": torch.zeros(3)}
    # The sky, which has no tint, is part of the comparison.
    rays = overlap.eval_rays.rays
    clear = render_rays(scenes["b000"], rays, torch.zeros(len(rays), 3), torch.ones(len(rays))).opacity < 0.5
    sky = float(overlap.eval_rays.weights[clear].sum())
    assert 0.1 < sky < 0.9
    difference = color_difference(overlap, scenes.__getitem__, codes, 1.0)
    assert 0.2 * 0.05 < difference < 0.05 * (1.0 - 0.5 * sky)
    assert color_difference(overlap, scenes.__getitem__, codes, 1.0, average_tiles=False) == pytest.approx(
        difference, rel=0.05
    )
    codes["b000"] = torch.tensor([0.3, 0.3, 0.3])
    assert color_difference(overlap, scenes.__getitem__, codes, 1.0) > 0.2


def test_tile_averages_ignore_detail(street_scene, route, view) -> None:
    """One block has a pattern with a wavelength of a fifth of a meter, the other its mean color."""

    class Patterned(street_scene):
        def color(self, features, directions, code):
            plain = torch.full_like(features, 0.5)
            return plain + code[:, None, :1] * torch.sign(torch.sin(30.0 * features[..., :1]))

        def sky(self, directions, code):
            return torch.full_like(directions, 0.5)

    scenes = {name: Patterned() for name in ("b000", "b001")}
    (overlap,) = find_overlaps(adjacent_blocks(route(2).blocks), block_cameras(view), scenes.__getitem__)
    codes = {"b000": torch.tensor([0.2, 0.0, 0.0]), "b001": torch.zeros(3)}
    pixels = color_difference(overlap, scenes.__getitem__, codes, 1.0, average_tiles=False)
    assert color_difference(overlap, scenes.__getitem__, codes, 1.0) < 0.5 * pixels


def test_blocks_without_shared_views_have_no_overlap(box_scene, route, view) -> None:
    """One block was only seen from this side of a wall, the other from behind it."""
    scenes = {"b000": box_scene([WALL], [(-3.0, 0.0, 2.0)]), "b001": box_scene([WALL], [(12.0, 0.0, 2.0)])}
    cameras_near = make_cameras([(-2.0 + 0.5 * i, 0.0, 2.0) for i in range(6)], view)
    cameras = {"b000": cameras_near, "b001": cameras_near}
    assert find_overlaps(adjacent_blocks(route(2).blocks), cameras, scenes.__getitem__) == []
    open_street = {name: box_scene([WALL], [(-3.0, 0.0, 2.0)]) for name in scenes}
    assert len(find_overlaps(adjacent_blocks(route(2).blocks), cameras, open_street.__getitem__)) == 1


def test_views_with_the_highest_shared_visibility_are_used(street_scene, route, view) -> None:
    """Half of the cameras look at a wall that only one block has seen."""
    scenes = {"b000": street_scene(), "b001": street_scene(eyes=[(float(x), 0.0, 1.5) for x in range(10, 46, 5)])}
    ahead_cameras = make_cameras([(2.0 + 0.2 * i, 0.0, 1.5) for i in range(8)], view)
    behind_cameras = Cameras.cat([view((2.0 + 0.2 * i, 0.0, 1.5), (-20.0, 0.0, 300.0), size=160) for i in range(8)])
    cameras = {name: Cameras.cat([ahead_cameras, behind_cameras]) for name in scenes}
    (overlap,) = find_overlaps(adjacent_blocks(route(2).blocks), cameras, scenes.__getitem__)
    direction_x = torch.cat([overlap.fit_rays.rays.directions, overlap.eval_rays.rays.directions])[:, 0]
    assert float((direction_x > 0.0).float().mean()) > 0.9
