"""Renderings of analytic scenes: equal to one block's where blocks agree, culled behind walls, continuous."""

import inspect
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.cache import BlockAlignment, LoadedBlock
from blocknerf.city.manifest import WEIGHTINGS, City, Weighting
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.weighting import WEIGHTING_RULES
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


def test_identical_blocks_blend_to_one_rendering(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    camera = view((5.0, 0.0, 1.5), (20.0, 1.0, 1.0))
    rendering = open_city(route(3), lambda name: scene, tmp_path).render(camera)
    expected = render_image(scene, camera.generate_rays(0), torch.zeros(3), 1.0)
    assert [block.name for block in rendering.rendered] == ["b000", "b001"]
    assert [block.weight for block in rendering.rendered] == pytest.approx([0.5, 0.5], abs=0.01)
    torch.testing.assert_close(rendering.color, expected.color, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(rendering.depth, expected.depth, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(rendering.opacity, expected.opacity, atol=1e-6, rtol=0.0)


def test_renderings_are_blended_by_their_weights(box_scene, route, view, tmp_path: Path) -> None:
    scenes = {f"b{i:03d}": box_scene(STREET, EYES, tint=0.03 * i) for i in range(3)}
    camera = view((7.0, 0.0, 1.5), (20.0, 1.0, 1.0))
    rendering = open_city(route(3), scenes.__getitem__, tmp_path).render(camera)
    weighted = [
        block.weight * render_image(scenes[block.name], camera.generate_rays(0), torch.zeros(3), 1.0).color
        for block in rendering.rendered
    ]
    assert len(weighted) >= 2
    torch.testing.assert_close(rendering.color, sum(weighted), atol=1e-6, rtol=0.0)


def test_block_behind_a_wall_is_culled(box_scene, route, view, tmp_path: Path) -> None:
    """Both blocks have the same scene; the one that was only seen from behind the wall is culled."""
    scenes = {
        "b000": box_scene([*STREET, WALL], [(-3.0, 0.0, 2.0)]),
        "b001": box_scene([*STREET, WALL], [(12.0, 0.0, 2.0)]),
    }
    rendering = open_city(route(2), scenes.__getitem__, tmp_path).render(view((5.0, 0.0, 2.0), (6.0, 0.0, 1.9)))
    visible, hidden = rendering.selection
    assert rendering.considered == ("b000", "b001"), "after retraining, the second might be visible"
    assert (visible.name, visible.reason, visible.weight) == ("b000", "blended", 1.0)
    assert (hidden.name, hidden.reason, hidden.rendered) == ("b001", "culled", False)
    assert visible.visibility > 0.8
    assert hidden.visibility < 0.01


def test_without_the_wall_the_same_block_is_blended(box_scene, route, view, tmp_path: Path) -> None:
    scenes = {"b000": box_scene(STREET, [(-3.0, 0.0, 2.0)]), "b001": box_scene(STREET, [(12.0, 0.0, 2.0)])}
    selection = (
        open_city(route(2), scenes.__getitem__, tmp_path).render(view((5.0, 0.0, 2.0), (9.0, 0.5, 0.0))).selection
    )
    assert [block.reason for block in selection] == ["blended", "blended"]


def test_nearest_block_is_the_fallback_if_all_are_culled(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, [(0.0, 0.0, -500.0)])
    selection = (
        open_city(route(3), lambda name: scene, tmp_path).render(view((6.0, 0.0, 1.5), (20.0, 0.0, 1.0))).selection
    )
    assert [(block.name, block.reason, block.weight) for block in selection if block.rendered] == [
        ("b001", "fallback", 1.0)
    ]
    assert {block.reason for block in selection if not block.rendered} == {"culled"}


def test_distant_camera_gets_the_nearest_block(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    (block,) = (
        open_city(route(3), lambda name: scene, tmp_path).render(view((90.0, 0.0, 1.5), (0.0, 0.0, 1.0))).selection
    )
    assert (block.name, block.reason, block.weight, block.visibility) == ("b002", "fallback", 1.0, None)


@pytest.mark.parametrize("x", [-8.0, 0.0, 5.0, 11.0, 90.0])
def test_a_function_blends_like_the_rule_that_it_repeats(x: float, box_scene, route, view, tmp_path: Path) -> None:
    """From a camera near one block, between two, and out of range of all."""
    scenes = {f"b{i:03d}": box_scene(STREET, EYES, tint=0.03 * i) for i in range(3)}
    renderer = open_city(route(3), scenes.__getitem__, tmp_path)
    camera = view((x, 0.0, 1.5), (x + 14.0, 1.0, 1.0))
    expected = renderer.render(camera, weighting="inverse_distance_2d")
    rendering = renderer.render(
        camera, weighting=lambda blocks: blocks.distances.clamp_min(1e-9) ** -renderer.city.power
    )
    torch.testing.assert_close(rendering.color, expected.color, atol=2e-5, rtol=0.0)
    by_pixel = renderer.render(camera, weighting=lambda blocks: blocks.visibility)
    assert by_pixel.color.isfinite().all()
    assert sum(block.weight for block in by_pixel.rendered) == pytest.approx(1.0, abs=1e-5)


def test_nearest_weighting_renders_one_block(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    renderer = open_city(route(3), lambda name: scene, tmp_path)
    rendering = renderer.render(view((6.0, 0.0, 1.5), (20.0, 0.0, 1.0)), weighting="nearest")
    assert [(block.name, block.weight) for block in rendering.rendered] == [("b001", 1.0)]


@pytest.mark.parametrize("weighting", [weighting for weighting in WEIGHTINGS if weighting != "nearest"])
def test_fly_through_has_no_hard_transition(weighting: str, box_scene, route, view, tmp_path: Path) -> None:
    """Blocks differ by 0.05 in brightness; a step of 0.1 meters changes the tint by less than a fifth of that."""
    scenes = {f"b{i:03d}": box_scene(STREET, EYES, tint=0.05 * (i % 2)) for i in range(5)}
    renderer = open_city(route(5), scenes.__getitem__, tmp_path)
    tints = []
    for i in range(101):
        x = 12.0 + 0.1 * i
        selection = renderer.select(view((x, 0.3, 1.5), (x + 5.0, 0.0, 1.0), size=4), weighting=weighting)
        assert sum(block.weight for block in selection) == pytest.approx(1.0)
        tints.append(sum(block.weight * scenes[block.name].tint for block in selection))
    # Neighbors that see alike have equal visibility weights along most of the flight.
    assert max(tints) - min(tints) > (0.045 if weighting == "inverse_distance_2d" else 0.005)
    assert max(abs(a - b) for a, b in itertools.pairwise(tints)) < 0.01


@pytest.mark.parametrize("weighting", [name for name, rule in WEIGHTING_RULES.items() if rule.per_pixel])
def test_mean_pixel_weights_match_the_selection(weighting: Weighting, box_scene, route, view, tmp_path: Path) -> None:
    """Checked where the block limit is about to change the selection, and at the rim, with the fallback."""
    scene = box_scene(STREET, EYES)
    many_blocks, rim = (
        view((20.02, 0.0, 1.5), (21.0, 0.0, 0.0), size=8),
        view((4.9, 11.2, 1.5), (4.9, 0.0, 0.0), size=8),
    )
    for city, camera in ((route(5, power=1.0), many_blocks), (route(5, visibility_threshold=0.0), rim)):
        renderer = open_city(city, lambda name: scene, tmp_path)
        selected = [block for block in renderer.select(camera, weighting=weighting, max_blocks=2) if block.rendered]
        rendering = renderer.render(camera, weighting=weighting, max_blocks=2).rendered
        assert [block.name for block in rendering] == [block.name for block in selected]
        assert 0.05 < selected[1].weight < 0.2
        assert [block.weight for block in rendering] == pytest.approx([block.weight for block in selected], abs=0.03)


def test_each_block_renders_in_its_own_frame(box_scene, route, view, tmp_path: Path) -> None:
    """One block learned the same street four meters higher."""
    offset, eyes = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 4.0)), EYES[2:]
    raised = [tuple((x, y, z + 4.0) for x, y, z in corners) for corners in STREET]
    aligned = {"b000": LoadedBlock(field=box_scene(STREET, EYES)), "b001": LoadedBlock(field=box_scene(STREET, eyes))}
    raised_scene = box_scene(raised, [(x, y, z + 4.0) for x, y, z in eyes])
    segment, identity = PoseSegment(segment="drive"), PivotTransform(pivot=(0.0, 0.0, 0.0))
    corrections = PoseCorrections(corrections=(PoseCorrection(pose_segment=segment, frames=1, motion=identity),))
    refined = aligned | {
        "b001": LoadedBlock(
            field=raised_scene, alignment=BlockAlignment(pose_corrections=corrections, block_from_world=offset)
        )
    }
    camera, city = view((5.0, 0.0, 1.5), (20.0, 1.0, 1.0)), route(2, visibility_threshold=0.0)
    renderings = [
        CityRenderer(RunFolder(tmp_path), city=city, load=blocks.__getitem__).render(
            camera, weighting="visibility_pixel", pose_segment=pose_segment
        )
        for blocks, pose_segment in ((aligned, None), (refined, None), (refined, segment))
    ]
    expected, corrected, uncorrected = ([part.image.depth for part in rendering.parts] for rendering in renderings)
    torch.testing.assert_close(corrected, expected, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(uncorrected[0], expected[0])
    assert not torch.allclose(uncorrected[1], expected[1], atol=0.1), "its own correction of the segment is zero"
    weights = [torch.stack([part.weight for part in rendering.parts]) for rendering in renderings]
    torch.testing.assert_close(weights[1], weights[0], atol=0.01, rtol=0.0)


def test_codes_and_exposure_reach_the_blocks(box_scene, route, view, tmp_path: Path) -> None:
    scene = box_scene(STREET, EYES)
    renderer = open_city(route(1), lambda name: scene, tmp_path)
    camera = view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0))
    code = torch.tensor([0.05, 0.0, -0.05])
    rendering = renderer.render(camera, codes={"b000": code}, exposure=0.5)
    torch.testing.assert_close(rendering.color, render_image(scene, camera.generate_rays(0), code, 0.5).color)
    assert not torch.allclose(rendering.color, renderer.render(camera).color, atol=0.01)


def test_cost_does_not_grow_with_the_number_of_blocks(box_scene, grid, view, tmp_path: Path) -> None:
    scene = box_scene([], [])
    counts = []
    for side in (10, 100):
        loaded: list[str] = []
        renderer = open_city(grid(side), lambda name, loaded=loaded: loaded.append(name) or scene, tmp_path)
        for i in range(20):
            x = 30.0 + 1.5 * i
            selection = renderer.select(view((x, 42.0, 1.5), (x + 5.0, 42.0, 1.0), size=4))
            assert len(selection) < 12
        counts.append(len(loaded))
    assert counts[0] == counts[1] < 30


def test_cache_keeps_the_blocks_of_one_position(box_scene, route, view, tmp_path: Path) -> None:
    loaded: list[str] = []
    scene = box_scene(STREET, EYES)
    renderer = open_city(route(3), lambda name: loaded.append(name) or scene, tmp_path)
    for _ in range(3):
        renderer.render(view((6.0, 0.0, 1.5), (20.0, 0.0, 1.0), size=4))
    assert sorted(loaded) == sorted(set(loaded))


def test_untrained_block_raises_unless_allowed(box_scene, route, view, tmp_path: Path) -> None:
    def load(name: str) -> object:
        if name == "b001":
            raise FileNotFoundError(name)
        return box_scene(STREET, EYES)

    camera = view((9.0, 0.0, 1.5), (20.0, 0.0, 1.0))
    with pytest.raises(RunError, match="block b001 is not trained; run 'blocknerf train"):
        open_city(route(3), load, tmp_path).render(camera)
    selection = open_city(route(3), load, tmp_path, allow_missing=True).render(camera).selection
    assert ("b001", "not_trained", 0.0) in [(block.name, block.reason, block.weight) for block in selection]
    assert sum(block.weight for block in selection) == pytest.approx(1.0)
    assert {block.name for block in selection if block.rendered} == {"b000", "b002"}


def test_nearest_trained_block_is_the_fallback(box_scene, route, view, tmp_path: Path) -> None:
    def load(name: str) -> object:
        if name != "b007":
            raise FileNotFoundError(name)
        return box_scene(STREET, EYES)

    camera = view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0))
    rendered = open_city(route(9), load, tmp_path, allow_missing=True).render(camera).rendered
    assert [(block.name, block.reason, block.weight) for block in rendered] == [("b007", "fallback", 1.0)]


def test_run_without_trained_blocks_raises(route, view, tmp_path: Path) -> None:
    def load(name: str) -> object:
        raise FileNotFoundError(name)

    with pytest.raises(RunError, match="no block is trained; run 'blocknerf train' first"):
        open_city(route(3), load, tmp_path, allow_missing=True).render(view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0)))


def test_segment_without_capture_raises(box_scene, route, view, tmp_path: Path) -> None:
    renderer = open_city(route(1), lambda name: box_scene([], []), tmp_path)
    with pytest.raises(RunError, match=r"capture\.json: does not exist"):
        renderer.render(view((0.0, 0.0, 1.5), (20.0, 0.0, 1.0)), segment="noon")


@pytest.mark.parametrize("method_name", ["render", "select"])
@pytest.mark.parametrize("weighting", ["mine", ""])
def test_unknown_weighting_raises(method_name: str, weighting: str, box_scene, route, view, tmp_path: Path) -> None:
    renderer = open_city(route(2), lambda name: box_scene(STREET, EYES), tmp_path)
    method = inspect.unwrap(getattr(CityRenderer, method_name))  # bypasses the runtime type checks of tests
    with pytest.raises(RunError, match=f"weighting {weighting!r} is none of {', '.join(WEIGHTINGS)}"):
        method(renderer, view((5.0, 0.0, 1.5), (20.0, 1.0, 1.0)), weighting=weighting)
