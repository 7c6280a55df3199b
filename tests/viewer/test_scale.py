"""A city larger than the range of the page's depth is scaled down, and otherwise rendered the same."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from blocknerf.city.run_folder import RunFolder
from tests.viewer.websocket_client import CAMERA, PageClient, decode_image, open_client
from viewer import run_contents
from viewer.auth_proxy import AuthProxy
from viewer.run_contents import MAX_SCENE_SIZE, RunContents, _scene_scale
from viewer.view import serve

MAX_DEPTH = 167.77
"""Largest depth in viser's 24 bits, in scene units."""
SMALL_SCENE = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PageState:
    """What a page shows for a camera at one position in the world."""

    minimap: str
    image: np.ndarray
    depth: np.ndarray
    origins: np.ndarray
    """Positions of the block markers."""
    sizes: np.ndarray


def page_state(proxy: AuthProxy, scale: float) -> PageState:
    with open_client(proxy.port) as page:
        page.send(**CAMERA | {"position": tuple(scale * x for x in CAMERA["position"])})
        labels = "Show blocks", "Show path"
        boxes = [box for box in wait_for_boxes(page) if box["props"]["label"] in labels]
        for box in boxes:
            page.send("GuiUpdateMessage", uuid=box["uuid"], updates={"value": True})
        page.wait_for("IcosphereMessage")
        before = -1
        while (count := len(renderings_of(page))) != before:  # refined until a window brings no rendering
            before = count
            page.receive(4.0)
        markers = [entry for entry in page.received if entry["type"] == "IcosphereMessage"]
        moves = [entry for entry in page.received if entry["type"] == "SetPositionMessage"]
        positions = {entry["name"]: entry["position"] for entry in moves}
        rendering = renderings_of(page)[-1]
        minimaps = [entry["updates"]["content"] for entry in page.received if is_minimap(entry)]
    return PageState(
        minimap=minimaps[-1],
        image=decode_image(rendering["rgb_data"])[..., :3].astype(np.float64),
        depth=decode_image(rendering["depth_data"])[..., :3].astype(np.float64) @ [1e-5, 256e-5, 65536e-5],
        origins=np.array([positions[marker["name"]] for marker in markers]),
        sizes=np.array([marker["props"]["radius"] for marker in markers]),
    )


def wait_for_boxes(page: PageClient) -> list[dict]:
    page.wait_for("GuiUploadButtonMessage")
    return [entry for entry in page.received if entry["type"] == "GuiCheckboxMessage"]


def renderings_of(page: PageClient) -> list[dict]:
    return [entry for entry in page.received if entry["type"] == "BackgroundImageMessage" and entry["depth_data"]]


def is_minimap(message: dict) -> bool:
    return message["type"] == "GuiUpdateMessage" and "<svg" in str(message["updates"].get("content"))


def test_a_scaled_down_city_is_rendered_the_same(
    proxy: AuthProxy, town_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_contents, "MAX_SCENE_SIZE", SMALL_SCENE)
    scale = RunContents.of(town_run).scene_scale
    assert 0.1 < scale < 0.3
    large = page_state(proxy, 1.0)
    with serve(town_run) as other:
        small = page_state(other, scale)
    assert small.minimap == large.minimap
    assert np.abs(small.image - large.image).mean() < 1.0
    near_enough = np.minimum(small.depth, scale * MAX_DEPTH)  # what is farther is cut off in the large one
    assert near_enough == pytest.approx(scale * large.depth, abs=0.02 * scale * float(large.depth.max()))
    np.testing.assert_allclose(small.origins, scale * large.origins, rtol=1e-4)
    np.testing.assert_allclose(small.sizes, scale * large.sizes, rtol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 5.0, 300.0])
def test_the_depth_range_covers_every_city(town_run: RunFolder, factor: float) -> None:
    contents = RunContents.of(town_run)
    far = tuple(replace(block, origin=tuple(factor * x for x in block.origin)) for block in contents.city.blocks)
    extent = max(np.linalg.norm(np.subtract(first.origin, second.origin)) for first in far for second in far)
    scale = _scene_scale(replace(contents.city, blocks=far), contents.cameras)
    assert scale * extent < MAX_SCENE_SIZE < MAX_DEPTH
    assert (scale == 1.0) is (factor == 1.0)
