"""Renderings of requests, and the minimap that shows their blocks."""

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
def contents(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


@pytest.fixture(scope="module")
def renderer(town_run: RunFolder, contents: RunContents) -> RequestRenderer:
    return RequestRenderer(CityRenderer(town_run, city=contents.city))


def make_request(contents: RunContents, image: int = 60, **changes: object) -> RenderRequest:
    view = contents.image(image).scaled(0.25)
    request = RenderRequest(
        view=view,
        appearance=contents.appearance("noon", None, None),
        city=contents.city,
        weighting="inverse_distance_2d",
    )
    return replace(request, **changes)


def test_a_rendering_equals_the_city_renderer(contents: RunContents, renderer: RequestRenderer) -> None:
    request = make_request(contents)
    rendering = renderer.render(request, 1.0, no_op)
    expected = renderer.renderer.render(
        request.view, **request.appearance.render_options_at(0.0, renderer.renderer, request.view)
    )
    assert np.array_equal(rendering.image, to_uint8(expected.color))
    assert rendering.selection == expected.selection
    cosine = rendering.camera.generate_rays(0).directions @ rendering.camera.camera_to_world[0, :, 2]
    assert np.allclose(rendering.depth, expected.depth.numpy() * cosine.numpy())
    half = renderer.render(request, 0.5, no_op)
    assert [2 * side for side in half.image.shape[:2]] == pytest.approx(rendering.image.shape[:2], abs=1)


def test_every_setting_changes_the_rendering(contents: RunContents, renderer: RequestRenderer) -> None:
    camera = contents.image(0)
    # Nearer to the first block: midway, rounding would decide which block "one block" renders.
    x = contents.city.blocks[1].origin[0] * 0.4 + contents.city.blocks[0].origin[0] * 0.6
    pose = camera.camera_to_world.clone()
    pose[0, 0, 3] = x
    view = replace(camera, camera_to_world=pose).scaled(0.25)
    requests = {
        "noon": make_request(contents, view=view),
        "dusk": make_request(contents, view=view, appearance=contents.appearance("dusk", None, None)),
        "blend": make_request(contents, view=view, appearance=contents.appearance("noon", "dusk", None), blend=0.5),
        "unmatched": make_request(
            contents, view=view, appearance=contents.appearance(contents.appearance_options[-1], None, None)
        ),
        "brighter": make_request(
            contents, view=view, appearance=contents.appearance("noon", None, 4.0 * contents.exposure)
        ),
        "one block": make_request(contents, view=view, max_blocks=1),
        "by visibility": make_request(contents, view=view, weighting="visibility_image"),
        "hidden block": make_request(contents, view=view, city=contents.with_overrides(frozenset({"b000"}), 4.0, 0.0)),
        **{layer: make_request(contents, view=view, layer=layer) for layer in LAYERS[1:]},
    }
    images = {name: renderer.render(request, 1.0, no_op).image for name, request in requests.items()}
    assert len({image.tobytes() for image in images.values()}) == len(images)


def test_visibility_is_predicted_on_the_device_of_the_blocks(
    contents: RunContents, renderer: RequestRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, devices = make_request(contents), []
    rendering = renderer.renderer.render(
        request.view, **request.appearance.render_options_at(0.0, renderer.renderer, request.view)
    )

    def record_device(_: object, cameras: Cameras) -> torch.Tensor:
        devices.append(cameras.camera_to_world.device.type)
        return torch.zeros(int(request.view.height[0]), int(request.view.width[0]))

    monkeypatch.setattr(request_renderer, "predict_visibility", record_device)
    monkeypatch.setattr(renderer.renderer, "device", torch.device("meta"))
    renderer._colors(rendering, "visibility", request.view)
    assert set(devices) == {"meta"}


def test_blocks_are_loaded_once_for_all_selections(
    contents: RunContents, renderer: RequestRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer.render(make_request(contents), 0.25, no_op)
    cache, loaded = renderer.renderer.cache, []
    load = cache._load
    monkeypatch.setattr(cache, "_load", lambda name: loaded.append(name) or load(name))
    for number in range(MAX_CACHED_RENDERERS + 4):
        renderer.render(
            make_request(contents, city=contents.with_overrides(frozenset(), 1.0 + 0.5 * number, 0.0)), 0.25, no_op
        )
    assert len(loaded) == len(set(loaded)) <= len(contents.city.blocks)
    assert len(renderer._renderers) == MAX_CACHED_RENDERERS


def test_a_rendering_can_be_cancelled(contents: RunContents, renderer: RequestRenderer) -> None:
    def cancel() -> None:
        raise RenderCancelled

    with pytest.raises(RenderCancelled):
        renderer.render(make_request(contents), 1.0, cancel)


def test_presets_segments_and_nearest_image_of_a_run(contents: RunContents) -> None:
    assert contents.preset_names == ("dusk", "noon")
    assert contents.appearance_options[:3] == ("dusk", "noon", f"{UNMATCHED_PREFIX}drive0_noon")
    assert contents.appearance(f"{UNMATCHED_PREFIX}drive0_noon", None, None) == AppearanceTrack(
        presets=(), segment="drive0_noon"
    )
    x, y, z = contents.image(5).centers[0].tolist()
    nearest = contents.image(contents.nearest_image((x, y, z + 0.01))).centers[0].tolist()
    assert nearest == pytest.approx([x, y, z])


@pytest.mark.parametrize("run", ["runs/street", "."])
def test_messages_for_clients_name_no_folder(contents: RunContents, run: str) -> None:
    relative = replace(contents, run=RunFolder(Path(run)), capture=replace(contents.capture, image_dir=Path("photos")))
    folder, root = Path(run).absolute(), Path("photos").resolve()
    text = relative.redact_paths(RunError(f"{folder}/city.json: 3.5 is no radius, see {root}/a.jpg; correct it."))
    assert text == f"{folder.name}/city.json: 3.5 is no radius, see photos/a.jpg; correct it."


def test_hiding_every_block_hides_none(contents: RunContents) -> None:
    names = frozenset(block.name for block in contents.city.blocks)
    assert contents.with_overrides(names, 4.0, 0.0).blocks == contents.city.blocks
    assert len(contents.with_overrides(frozenset({"b000"}), 4.0, 0.0).blocks) == len(names) - 1


def test_the_minimap_follows_the_camera(contents: RunContents, renderer: RequestRenderer) -> None:
    maps = []
    for image in (contents.path[0], contents.path[-1]):
        rendering = renderer.render(make_request(contents, image), 0.25, no_op)
        svg = draw_minimap(contents, rendering.selection, rendering.camera)
        states = dict(re.findall(r'data-block="(\w+)" data-state="(\w+)"', svg))
        assert states.keys() == {block.name for block in contents.city.blocks}
        assert {block.name for block in rendering.selection if block.rendered} == {
            name for name, state in states.items() if state in ("blended", "fallback")
        }
        (arrow,) = re.findall(r"translate\(([\d.-]+),([\d.-]+)\)", svg)
        assert all(0.0 < float(coordinate) < SIDE for coordinate in arrow)
        assert rendering.selection[0].name in selection_table(rendering.selection)
        maps.append((states, arrow))
    assert maps[0] != maps[1]
