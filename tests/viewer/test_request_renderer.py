"""Pictures by wish, and the plan that says which blocks they are from."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras
from blocknerf.city.appearance_track import AppearanceTrack
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.images import to_uint8
from blocknerf.rendering.image import no_op
from viewer import request_renderer
from viewer.minimap import SIDE, draw_minimap, selection_table
from viewer.request_renderer import LAYERS, MAX_CACHED_RENDERERS, RenderRequest, RequestRenderer
from viewer.run_contents import UNMATCHED_PREFIX, RunContents
from viewer.scheduler import RenderCancelled


@pytest.fixture(scope="module")
def stock(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


@pytest.fixture(scope="module")
def gallery(town_run: RunFolder, stock: RunContents) -> RequestRenderer:
    return RequestRenderer(CityRenderer(town_run, city=stock.city))


def wish(stock: RunContents, photograph: int = 60, **changes: object) -> RenderRequest:
    view = stock.image(photograph).scaled(0.25)
    plain = RenderRequest(
        view=view, appearance=stock.appearance("noon", None, None), city=stock.city, weighting="inverse_distance_2d"
    )
    return replace(plain, **changes)


def test_a_picture_is_what_the_city_shows(stock: RunContents, gallery: RequestRenderer) -> None:
    asked = wish(stock)
    shown = gallery.render(asked, 1.0, no_op)
    expected = gallery.renderer.render(
        asked.view, **asked.appearance.render_options_at(0.0, gallery.renderer, asked.view)
    )
    assert np.array_equal(shown.image, to_uint8(expected.color))
    assert shown.selection == expected.selection
    ahead = shown.camera.generate_rays(0).directions @ shown.camera.camera_to_world[0, :, 2]
    assert np.allclose(shown.depth, expected.depth.numpy() * ahead.numpy())
    half = gallery.render(asked, 0.5, no_op)
    assert [2 * side for side in half.image.shape[:2]] == pytest.approx(shown.image.shape[:2], abs=1)


def test_light_exposure_weighting_and_layer_change_it(stock: RunContents, gallery: RequestRenderer) -> None:
    between = stock.image(0)
    # Nearer to the first block: half way between them rounding would decide which is the one that is shown alone.
    middle = stock.city.blocks[1].origin[0] * 0.4 + stock.city.blocks[0].origin[0] * 0.6
    pose = between.camera_to_world.clone()
    pose[0, 0, 3] = middle
    view = replace(between, camera_to_world=pose).scaled(0.25)
    wishes = {
        "noon": wish(stock, view=view),
        "dusk": wish(stock, view=view, light=stock.appearance("dusk", None, None)),
        "half way": wish(stock, view=view, light=stock.appearance("noon", "dusk", None), passed=0.5),
        "as learned": wish(stock, view=view, light=stock.appearance(stock.presets[-1], None, None)),
        "brighter": wish(stock, view=view, light=stock.appearance("noon", None, 4.0 * (stock.exposure or 1.0))),
        "one block": wish(stock, view=view, max_blocks=1),
        "by visibility": wish(stock, view=view, weighting="visibility_image"),
        "without one": wish(stock, view=view, city=stock.with_overrides(frozenset({"b000"}), 4.0, 0.0)),
        **{layer: wish(stock, view=view, layer=layer) for layer in LAYERS[1:]},
    }
    images = {name: gallery.render(each, 1.0, no_op).image for name, each in wishes.items()}
    assert len({image.tobytes() for image in images.values()}) == len(images)


def test_visibility_is_asked_for_where_the_blocks_are(
    stock: RunContents, gallery: RequestRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, places = wish(stock), []
    seen = gallery.renderer.render(asked.view, **asked.appearance.render_options_at(0.0, gallery.renderer, asked.view))

    def predicted(_: object, cameras: Cameras) -> torch.Tensor:
        places.append(cameras.camera_to_world.device.type)
        return torch.zeros(int(asked.view.height[0]), int(asked.view.width[0]))

    monkeypatch.setattr(request_renderer, "predict_visibility", predicted)
    monkeypatch.setattr(gallery.renderer, "device", torch.device("meta"))
    gallery._colors(seen, "visibility", asked.view)
    assert set(places) == {"meta"}


def test_blocks_are_held_once_however_they_are_chosen(
    stock: RunContents, gallery: RequestRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.render(wish(stock), 0.25, no_op)
    cache, loaded = gallery.renderer.cache, []
    load = cache._load
    monkeypatch.setattr(cache, "_load", lambda name: loaded.append(name) or load(name))
    for number in range(MAX_CACHED_RENDERERS + 4):
        gallery.render(wish(stock, city=stock.with_overrides(frozenset(), 1.0 + 0.5 * number, 0.0)), 0.25, no_op)
    assert len(loaded) == len(set(loaded)) <= len(stock.city.blocks)
    assert len(gallery._renderers) == MAX_CACHED_RENDERERS


def test_a_picture_can_be_given_up(stock: RunContents, gallery: RequestRenderer) -> None:
    def give_up() -> None:
        raise RenderCancelled

    with pytest.raises(RenderCancelled):
        gallery.render(wish(stock), 1.0, give_up)


def test_what_a_run_offers(stock: RunContents) -> None:
    assert stock.preset_names == ("dusk", "noon")
    assert stock.presets[:3] == ("dusk", "noon", f"{UNMATCHED_PREFIX}drive0_noon")
    assert stock.appearance(f"{UNMATCHED_PREFIX}drive0_noon", None, None) == AppearanceTrack(
        presets=(), segment="drive0_noon"
    )
    x, y, z = stock.image(5).centers[0].tolist()
    near = stock.image(stock.nearest_image((x, y, z + 0.01))).centers[0].tolist()
    assert near == pytest.approx([x, y, z])


@pytest.mark.parametrize("run", ["runs/street", "."])
def test_visitors_are_told_no_folder(stock: RunContents, run: str) -> None:
    own = replace(stock, run=RunFolder(Path(run)), capture=replace(stock.capture, image_dir=Path("photos")))
    folder, root = Path(run).absolute(), Path("photos").resolve()
    found = own.redact_paths(RunError(f"{folder}/city.json: 3.5 is no radius, see {root}/a.jpg; correct it."))
    assert found == f"{folder.name}/city.json: 3.5 is no radius, see photos/a.jpg; correct it."


def test_hiding_every_block_hides_none(stock: RunContents) -> None:
    names = frozenset(block.name for block in stock.city.blocks)
    assert stock.with_overrides(names, 4.0, 0.0).blocks == stock.city.blocks
    assert len(stock.with_overrides(frozenset({"b000"}), 4.0, 0.0).blocks) == len(names) - 1


def test_the_plan_follows_the_camera(stock: RunContents, gallery: RequestRenderer) -> None:
    states = []
    for photograph in (stock.path[0], stock.path[-1]):
        picture = gallery.render(wish(stock, photograph), 0.25, no_op)
        drawing = draw_minimap(stock, picture.selection, picture.camera)
        found = dict(re.findall(r'data-block="(\w+)" data-state="(\w+)"', drawing))
        assert found.keys() == {block.name for block in stock.city.blocks}
        assert {use.name for use in picture.selection if use.rendered} == {
            name for name, state in found.items() if state in ("blended", "fallback")
        }
        (arrow,) = re.findall(r"translate\(([\d.-]+),([\d.-]+)\)", drawing)
        assert all(0.0 < float(place) < SIDE for place in arrow)
        assert picture.selection[0].name in selection_table(picture.selection)
        states.append((found, arrow))
    assert states[0] != states[1]
