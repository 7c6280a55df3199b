"""Pictures of a city of exact scenes: equal to one block's where blocks agree, culled behind walls, no seams."""

import inspect
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.block_alignment import BlockAlignment
from blocknerf.city.cache import LoadedBlock
from blocknerf.city.manifest import WEIGHTINGS, City, Weighting
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.weighting import PIXEL_WEIGHTINGS
from blocknerf.errors import RunError
from blocknerf.rendering.image import render_image

STREET = [
    ((-40.0, 4.0, 0.0), (60.0, 6.0, 4.0)),
    ((-40.0, -6.0, 0.0), (60.0, -4.0, 6.0)),
    ((-40.0, -4.0, -1.0), (60.0, 4.0, 0.0)),
]
"""Two walls and a road along x."""
WALL = ((6.0, -20.0, -1.0), (7.0, 20.0, 12.0))
"""Across the street, between the origins of the first two blocks of a route."""
EYES = [(float(x), 0.0, 1.5) for x in range(-5, 46, 10)]


def open_city(city: City, load: Callable[[str], object], path: Path, **settings: object) -> CityRenderer:
    return CityRenderer(RunFolder(path), city=city, load=lambda name: LoadedBlock(field=load(name)), **settings)


def test_blocks_that_agree_blend_to_the_picture_of_one(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    camera = view((5.0, 0.0, 1.5), (20.0, 1.0, 1.0))
    seen = open_city(route(3), lambda name: scene, tmp_path).render(camera)
    alone = render_image(scene, camera.generate_rays(0), torch.zeros(3), 1.0)
    assert [use.name for use in seen.rendered] == ["b000", "b001"]
    assert [use.weight for use in seen.rendered] == pytest.approx([0.5, 0.5], abs=0.01)
    torch.testing.assert_close(seen.color, alone.color, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(seen.depth, alone.depth, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(seen.opacity, alone.opacity, atol=1e-6, rtol=0.0)


def test_images_are_blended_by_their_weights(box_scene, route, view, tmp_path: Path) -> None:
    scenes = {f"b{i:03d}": box_scene(STREET, EYES, tint=0.03 * i) for i in range(3)}
    camera = view((7.0, 0.0, 1.5), (20.0, 1.0, 1.0))
    seen = open_city(route(3), scenes.__getitem__, tmp_path).render(camera)
    pictures = [
        use.weight * render_image(scenes[use.name], camera.generate_rays(0), torch.zeros(3), 1.0).color
        for use in seen.rendered
    ]
    assert len(pictures) >= 2
    torch.testing.assert_close(seen.color, sum(pictures), atol=1e-6, rtol=0.0)


def test_a_block_behind_a_wall_is_culled(box_scene, route, view, tmp_path: Path) -> None:
    """Both blocks hold the same scene; the one that was only ever seen from beyond the wall drops out."""
    scenes = {
        "b000": box_scene([*STREET, WALL], [(-3.0, 0.0, 2.0)]),
        "b001": box_scene([*STREET, WALL], [(12.0, 0.0, 2.0)]),
    }
    seen = open_city(route(2), scenes.__getitem__, tmp_path).render(view((5.0, 0.0, 2.0), (6.0, 0.0, 1.9)))
    near, behind = seen.selection
    assert seen.considered == ("b000", "b001"), "retrained, the second might be seen"
    assert (near.name, near.reason, near.weight) == ("b000", "blended", 1.0)
    assert (behind.name, behind.reason, behind.rendered) == ("b001", "culled", False)
    assert near.visibility > 0.8
    assert behind.visibility < 0.01


def test_without_the_wall_the_same_block_is_blended(box_scene, route, view, tmp_path: Path) -> None:
    scenes = {"b000": box_scene(STREET, [(-3.0, 0.0, 2.0)]), "b001": box_scene(STREET, [(12.0, 0.0, 2.0)])}
    uses = open_city(route(2), scenes.__getitem__, tmp_path).render(view((5.0, 0.0, 2.0), (9.0, 0.5, 0.0))).selection
    assert [use.reason for use in uses] == ["blended", "blended"]


def test_where_none_survives_the_nearest_renders_and_the_result_says_so(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, [(0.0, 0.0, -500.0)])
    uses = open_city(route(3), lambda name: scene, tmp_path).render(view((6.0, 0.0, 1.5), (20.0, 0.0, 1.0))).selection
    assert [(use.name, use.reason, use.weight) for use in uses if use.rendered] == [("b001", "fallback", 1.0)]
    assert {use.reason for use in uses if not use.rendered} == {"culled"}


def test_a_camera_far_outside_gets_the_nearest_block(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    (use,) = open_city(route(3), lambda name: scene, tmp_path).render(view((90.0, 0.0, 1.5), (0.0, 0.0, 1.0))).selection
    assert (use.name, use.reason, use.weight, use.visibility) == ("b002", "fallback", 1.0, None)


def test_nearest_weighting_renders_one_block(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    renderer = open_city(route(3), lambda name: scene, tmp_path)
    seen = renderer.render(view((6.0, 0.0, 1.5), (20.0, 0.0, 1.0)), weighting="nearest")
    assert [(use.name, use.weight) for use in seen.rendered] == [("b001", 1.0)]


@pytest.mark.parametrize("weighting", [weighting for weighting in WEIGHTINGS if weighting != "nearest"])
def test_a_fly_through_has_no_hard_seam(weighting: str, box_scene, route, view, tmp_path: Path) -> None:
    """Blocks that disagree by 0.05 in brightness: no step of a tenth of a metre changes the tint by a fifth of that."""
    scenes = {f"b{i:03d}": box_scene(STREET, EYES, tint=0.05 * (i % 2)) for i in range(5)}
    renderer = open_city(route(5), scenes.__getitem__, tmp_path)
    tints = []
    for i in range(101):
        x = 12.0 + 0.1 * i
        uses = renderer.select(view((x, 0.3, 1.5), (x + 5.0, 0.0, 1.0), size=4), weighting=weighting)
        assert sum(use.weight for use in uses) == pytest.approx(1.0)
        tints.append(sum(use.weight * scenes[use.name].tint for use in uses))
    # Neighbours that see alike have equal shares by visibility, most of the way.
    assert max(tints) - min(tints) > (0.045 if weighting == "inverse_distance_2d" else 0.005)
    assert max(abs(a - b) for a, b in itertools.pairwise(tints)) < 0.01


@pytest.mark.parametrize("weighting", PIXEL_WEIGHTINGS)
def test_shares_of_pixels_come_to_those_of_the_selection(
    weighting: Weighting, box_scene, route, view, tmp_path: Path
) -> None:
    """Where the limit on blocks is about to take another one, and at the rim, where the nearest stands in."""
    scene = box_scene(STREET, EYES)
    crowded, rim = view((20.02, 0.0, 1.5), (21.0, 0.0, 0.0), size=8), view((4.9, 11.2, 1.5), (4.9, 0.0, 0.0), size=8)
    for city, camera in ((route(5, power=1.0), crowded), (route(5, visibility_threshold=0.0), rim)):
        renderer = open_city(city, lambda name: scene, tmp_path)
        chosen = [use for use in renderer.select(camera, weighting=weighting, max_blocks=2) if use.rendered]
        seen = renderer.render(camera, weighting=weighting, max_blocks=2).rendered
        assert [use.name for use in seen] == [use.name for use in chosen]
        assert 0.05 < chosen[1].weight < 0.2
        assert [use.weight for use in seen] == pytest.approx([use.weight for use in chosen], abs=0.03)


def test_each_block_is_seen_from_where_it_thinks_the_camera_stands(box_scene, route, view, tmp_path: Path) -> None:
    """One block learned the same street four metres off."""
    off, eyes = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 4.0)), EYES[2:]
    raised = [tuple((x, y, z + 4.0) for x, y, z in corners) for corners in STREET]
    straight = {"b000": LoadedBlock(field=box_scene(STREET, EYES)), "b001": LoadedBlock(field=box_scene(STREET, eyes))}
    moved = box_scene(raised, [(x, y, z + 4.0) for x, y, z in eyes])
    stretch, still = PoseSegment(segment="drive"), PivotTransform(pivot=(0.0, 0.0, 0.0))
    own = PoseCorrections(corrections=(PoseCorrection(pose_segment=stretch, frames=1, motion=still),))
    placed = straight | {
        "b001": LoadedBlock(field=moved, alignment=BlockAlignment(pose_corrections=own, block_from_world=off))
    }
    camera, city = view((5.0, 0.0, 1.5), (20.0, 1.0, 1.0)), route(2, visibility_threshold=0.0)
    pictures = [
        CityRenderer(RunFolder(tmp_path), city=city, load=blocks.__getitem__).render(
            camera, weighting="visibility_pixel", stretch=asked
        )
        for blocks, asked in ((straight, None), (placed, None), (placed, stretch))
    ]
    expected, found, unmoved = ([part.image.depth for part in seen.parts] for seen in pictures)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(unmoved[0], expected[0])
    assert not torch.allclose(unmoved[1], expected[1], atol=0.1), "it learned that the photographs stand where given"
    weights = [torch.stack([part.weight for part in seen.parts]) for seen in pictures]
    torch.testing.assert_close(weights[1], weights[0], atol=0.01, rtol=0.0)


def test_codes_and_exposure_reach_the_blocks(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    renderer = open_city(route(1), lambda name: scene, tmp_path)
    camera = view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0))
    code = torch.tensor([0.05, 0.0, -0.05])
    seen = renderer.render(camera, codes={"b000": code}, exposure=0.5)
    torch.testing.assert_close(seen.color, render_image(scene, camera.generate_rays(0), code, 0.5).color)
    assert not torch.allclose(seen.color, renderer.render(camera).color, atol=0.01)


def test_ten_thousand_blocks_cost_no_more_than_a_hundred(box_scene, grid, view, tmp_path: Path) -> None:
    scene = box_scene([], [])
    counts = []
    for side in (10, 100):
        loaded: list[str] = []
        renderer = open_city(grid(side), lambda name, loaded=loaded: loaded.append(name) or scene, tmp_path)
        for i in range(20):
            x = 30.0 + 1.5 * i
            uses = renderer.select(view((x, 42.0, 1.5), (x + 5.0, 42.0, 1.0), size=4))
            assert len(uses) < 12
        counts.append(len(loaded))
    assert counts[0] == counts[1] < 30


def test_the_cache_holds_the_blocks_of_one_place(box_scene, route, view, tmp_path: Path) -> None:
    loaded: list[str] = []
    scene = box_scene(STREET, EYES)
    renderer = open_city(route(3), lambda name: loaded.append(name) or scene, tmp_path)
    for _ in range(3):
        renderer.render(view((6.0, 0.0, 1.5), (20.0, 0.0, 1.0), size=4))
    assert sorted(loaded) == sorted(set(loaded))


def test_an_untrained_block_is_refused_unless_allowed(box_scene, route, view, tmp_path: Path) -> None:
    def load(name: str) -> object:
        if name == "b001":
            raise FileNotFoundError(name)
        return box_scene(STREET, EYES)

    camera = view((9.0, 0.0, 1.5), (20.0, 0.0, 1.0))
    with pytest.raises(RunError, match="block b001 is not trained; run 'blocknerf train"):
        open_city(route(3), load, tmp_path).render(camera)
    uses = open_city(route(3), load, tmp_path, allow_missing=True).render(camera).selection
    assert ("b001", "not_trained", 0.0) in [(use.name, use.reason, use.weight) for use in uses]
    assert sum(use.weight for use in uses) == pytest.approx(1.0)
    assert {use.name for use in uses if use.rendered} == {"b000", "b002"}


def test_the_nearest_trained_block_serves_where_none_around_is_trained(box_scene, route, view, tmp_path: Path) -> None:
    def load(name: str) -> object:
        if name != "b007":
            raise FileNotFoundError(name)
        return box_scene(STREET, EYES)

    camera = view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0))
    rendered = open_city(route(9), load, tmp_path, allow_missing=True).render(camera).rendered
    assert [(use.name, use.reason, use.weight) for use in rendered] == [("b007", "fallback", 1.0)]


def test_a_run_without_any_trained_block_is_refused(route, view, tmp_path: Path) -> None:
    def load(name: str) -> object:
        raise FileNotFoundError(name)

    with pytest.raises(RunError, match="no block is trained; run 'blocknerf train' first"):
        open_city(route(3), load, tmp_path, allow_missing=True).render(view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0)))


def test_a_look_is_refused_where_there_is_no_capture(box_scene, route, view, tmp_path: Path) -> None:
    renderer = open_city(route(1), lambda name: box_scene([], []), tmp_path)
    with pytest.raises(RunError, match=r"capture\.json: is not there"):
        renderer.render(view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0)), segment="noon")


@pytest.mark.parametrize("ask", ["render", "select"])
@pytest.mark.parametrize("weighting", ["mine", ""])
def test_a_weighting_that_there_is_not_is_refused(
    ask: str, weighting: str, box_scene, route, view, tmp_path: Path
) -> None:
    renderer = open_city(route(2), lambda name: box_scene(STREET, EYES), tmp_path)
    method = inspect.unwrap(getattr(CityRenderer, ask))  # as without the type checks of tests
    with pytest.raises(RunError, match=f"weighting {weighting!r} is none of {', '.join(WEIGHTINGS)}"):
        method(renderer, view((5.0, 0.0, 1.5), (20.0, 1.0, 1.0)), weighting=weighting)
