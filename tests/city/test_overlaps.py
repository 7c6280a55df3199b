"""Where blocks meet, and in which views they can be compared."""

import pytest
import torch

from blocknerf.cameras import Cameras
from blocknerf.city import overlaps
from blocknerf.city.manifest import City
from blocknerf.city.overlaps import adjacent_blocks, candidate_views, color_difference, find_overlaps, overlap_center
from blocknerf.partition.block import Block
from blocknerf.rendering.rays import render_rays

WALL = ((6.0, -20.0, -1.0), (7.0, 20.0, 12.0))


def pairs(city: City) -> list[tuple[str, str]]:
    return [(first.name, second.name) for first, second in adjacent_blocks(city.blocks)]


def test_blocks_along_a_route_meet_the_next_one(route) -> None:
    assert pairs(route(4)) == [("b000", "b001"), ("b001", "b002"), ("b002", "b003")]


def test_blocks_of_a_lattice_meet_their_six_neighbors(grid) -> None:
    found = pairs(grid(5))
    middle = [pair for pair in found if "b00012" in pair]
    assert len(middle) == 6


def test_a_bend_does_not_make_every_other_block_meet() -> None:
    blocks = [
        Block(name="a", origin=(0.0, 0.0, 0.0), radius=10.0),
        Block(name="b", origin=(8.0, 6.0, 0.0), radius=10.0),
        Block(name="c", origin=(8.0, 16.0, 0.0), radius=10.0),
    ]
    assert pairs(City(blocks=tuple(blocks))) == [("a", "b"), ("b", "c")]
    apart = [blocks[0], blocks[2]]
    assert pairs(City(blocks=tuple(apart))) == [("a", "c")], "without the block between them they do"


def test_blocks_apart_do_not_meet() -> None:
    far = (Block(name="a", origin=(0.0, 0.0, 0.0), radius=3.0), Block(name="b", origin=(7.0, 0.0, 9.0), radius=3.0))
    assert pairs(City(blocks=far)) == []


def test_blocks_on_one_spot_meet_there() -> None:
    twin = Block(name="a", origin=(1.0, 2.0, 3.0), radius=3.0)
    assert overlap_center(twin, twin) == (1.0, 2.0)


def test_unequal_blocks_meet_in_the_middle_of_what_they_share() -> None:
    large = Block(name="a", origin=(0.0, 0.0, 0.0), radius=10.0)
    assert overlap_center(large, Block(name="b", origin=(0.0, 12.0, 5.0), radius=4.0)) == (0.0, 9.0)
    assert overlap_center(large, Block(name="b", origin=(4.0, 0.0, 0.0), radius=2.0)) == (4.0, 0.0)


def looking_along(eyes: list[tuple[float, float, float]], view) -> Cameras:
    return Cameras.cat([view(eye, (eye[0] + 5.0, 1.0, 1.0), size=160) for eye in eyes])


def test_candidates_are_small_views_near_the_place(view) -> None:
    cameras = looking_along([(0.5 * i, 0.0, 1.5) for i in range(400)], view)
    chosen = candidate_views((40.0, 3.0), cameras)
    assert len(chosen) == overlaps.CANDIDATES
    assert max(int(chosen.width.max()), int(chosen.height.max())) == overlaps.VIEW_SIDE
    spread = float((chosen.centers[:, 0] - 40.0).abs().max())
    assert (
        0.9 * overlaps.CANDIDATES * overlaps.CANDIDATE_STRIDE / 4
        < spread
        <= overlaps.CANDIDATES * overlaps.CANDIDATE_STRIDE / 4
    )
    assert len(candidate_views((0.0, 0.0), cameras[:3])) == 3


def seen_by(view, count: int = 6) -> dict[str, Cameras]:
    cameras = looking_along([(2.0 + i, 0.0, 1.5) for i in range(count)], view)
    return {"b000": cameras, "b001": cameras}


def test_a_seam_compares_what_both_blocks_show(street_scene, route, view) -> None:
    scenes = {f"b{i:03d}": street_scene(tint=0.05 * i) for i in range(2)}
    (seam,) = find_overlaps(adjacent_blocks(route(2).blocks), seen_by(view), scenes.__getitem__)
    assert seam.blocks == ("b000", "b001")
    assert seam.other("b001") == "b000"
    assert 0.2 < seam.visibility <= 1.0
    for each in (seam.fit_rays, seam.eval_rays):
        assert float(each.weights.sum()) == pytest.approx(1.0)
        assert len(each.rays) == len(each.weights) == 3 * 40 * 40
        assert each.tile_average.unique().tolist() == list(range(3 * 25))
    places = [set(each.rays.origins[:, 0].tolist()) for each in (seam.fit_rays, seam.eval_rays)]
    assert [len(each) for each in places] == [3, 3]
    assert not places[0] & places[1], "codes are judged in other views than those they were fitted in"
    codes = {"b000": torch.zeros(3), "b001": torch.zeros(3)}
    # The sky, which has no tint, is part of what is compared.
    rays = seam.eval_rays.rays
    clear = render_rays(scenes["b000"], rays, torch.zeros(len(rays), 3), torch.ones(len(rays))).opacity < 0.5
    sky = float(seam.eval_rays.weights[clear].sum())
    assert 0.1 < sky < 0.9
    found = color_difference(seam, scenes.__getitem__, codes, 1.0)
    assert 0.2 * 0.05 < found < 0.05 * (1.0 - 0.5 * sky)
    assert color_difference(seam, scenes.__getitem__, codes, 1.0, tones=False) == pytest.approx(found, rel=0.05)
    codes["b000"] = torch.tensor([0.3, 0.3, 0.3])
    assert color_difference(seam, scenes.__getitem__, codes, 1.0) > 0.2


def test_tones_leave_detail_aside(street_scene, route, view) -> None:
    """One block shows a pattern, of a wave in a fifth of a metre, where the other shows its mean."""

    class Patterned(street_scene):
        def color(self, features, directions, code, exposure):
            plain = torch.full_like(features, 0.5)
            return plain + code[:, None, :1] * torch.sign(torch.sin(30.0 * features[..., :1]))

        def sky(self, directions, code, exposure):
            return torch.full_like(directions, 0.5)

    scenes = {name: Patterned() for name in ("b000", "b001")}
    (seam,) = find_overlaps(adjacent_blocks(route(2).blocks), seen_by(view), scenes.__getitem__)
    codes = {"b000": torch.tensor([0.2, 0.0, 0.0]), "b001": torch.zeros(3)}
    pixels = color_difference(seam, scenes.__getitem__, codes, 1.0, tones=False)
    assert color_difference(seam, scenes.__getitem__, codes, 1.0) < 0.5 * pixels


def test_blocks_that_saw_nothing_in_common_have_no_seam(box_scene, route, view) -> None:
    """One was only ever seen from this side of a wall, the other from beyond it."""
    scenes = {"b000": box_scene([WALL], [(-3.0, 0.0, 2.0)]), "b001": box_scene([WALL], [(12.0, 0.0, 2.0)])}
    near = looking_along([(-2.0 + 0.5 * i, 0.0, 2.0) for i in range(6)], view)
    cameras = {"b000": near, "b001": near}
    assert find_overlaps(adjacent_blocks(route(2).blocks), cameras, scenes.__getitem__) == []
    open_street = {name: box_scene([WALL], [(-3.0, 0.0, 2.0)]) for name in scenes}
    assert len(find_overlaps(adjacent_blocks(route(2).blocks), cameras, open_street.__getitem__)) == 1


def test_views_with_most_in_common_are_taken(street_scene, route, view) -> None:
    """Half of the cameras look at a wall that only one block has seen."""
    scenes = {"b000": street_scene(), "b001": street_scene(eyes=[(float(x), 0.0, 1.5) for x in range(10, 46, 5)])}
    along = looking_along([(2.0 + 0.2 * i, 0.0, 1.5) for i in range(8)], view)
    back = Cameras.cat([view((2.0 + 0.2 * i, 0.0, 1.5), (-20.0, 0.0, 300.0), size=160) for i in range(8)])
    cameras = {name: Cameras.cat([along, back]) for name in scenes}
    (seam,) = find_overlaps(adjacent_blocks(route(2).blocks), cameras, scenes.__getitem__)
    ahead = torch.cat([seam.fit_rays.rays.directions, seam.eval_rays.rays.directions])[:, 0]
    assert float((ahead > 0.0).float().mean()) > 0.9
