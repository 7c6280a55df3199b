"""A city larger than the depth that a page can hold: it is shown smaller, and otherwise the same."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from blocknerf.city.run_folder import RunFolder
from tests.viewer.speaking import CAMERA, Speaker, speaker
from viewer import run_contents
from viewer.auth_proxy import AuthProxy
from viewer.run_contents import MAX_SCENE_SIZE, RunContents, _scale
from viewer.view import serve

HOLDS = 167.77
"""Units of the page that viser's 24 bits of depth reach to."""
SMALLER = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a visitor at one place of the world is shown."""

    plan: str
    image: np.ndarray
    depth: np.ndarray
    origins: np.ndarray
    """Of the blocks' balls."""
    sizes: np.ndarray


def seen(gate: AuthProxy, scale: float) -> Seen:
    with speaker(gate.port) as page:
        page.say(**CAMERA | {"position": tuple(scale * x for x in CAMERA["position"])})
        boxes = [each for each in wait_for_boxes(page) if each["props"]["label"] in ("Show blocks", "Show path")]
        for box in boxes:
            page.say("GuiUpdateMessage", uuid=box["uuid"], updates={"value": True})
        page.wait_for("IcosphereMessage")
        page.listen(4.0)
        balls = [each for each in page.told if each["type"] == "IcosphereMessage"]
        places = {each["name"]: each["position"] for each in page.told if each["type"] == "SetPositionMessage"}
        shown = [each for each in page.told if each["type"] == "BackgroundImageMessage" and each["depth_data"]][-1]
        plans = [each["updates"]["content"] for each in page.told if is_plan(each)]
    return Seen(
        plan=plans[-1],
        image=decoded(shown["rgb_data"])[..., :3].astype(np.float64),
        depth=decoded(shown["depth_data"])[..., :3].astype(np.float64) @ [1e-5, 256e-5, 65536e-5],
        origins=np.array([places[each["name"]] for each in balls]),
        sizes=np.array([each["props"]["radius"] for each in balls]),
    )


def wait_for_boxes(page: Speaker) -> list[dict]:
    page.wait_for("GuiUploadButtonMessage")
    return [each for each in page.told if each["type"] == "GuiCheckboxMessage"]


def is_plan(message: dict) -> bool:
    return message["type"] == "GuiUpdateMessage" and "<svg" in str(message["updates"].get("content"))


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_city_that_is_shown_smaller_is_the_same(
    gate: AuthProxy, town_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_contents, "MAX_SCENE_SIZE", SMALLER)
    scale = RunContents.of(town_run).scene_scale
    assert 0.1 < scale < 0.3
    large = seen(gate, 1.0)
    with serve(town_run) as other:
        small = seen(other, scale)
    assert small.plan == large.plan
    assert np.abs(small.image - large.image).mean() < 1.0
    assert small.depth == pytest.approx(scale * large.depth, abs=0.02 * scale * float(large.depth.max()))
    np.testing.assert_allclose(small.origins, scale * large.origins, rtol=1e-4)
    np.testing.assert_allclose(small.sizes, scale * large.sizes, rtol=1e-4)


@pytest.mark.parametrize("times", [1.0, 5.0, 300.0])
def test_depth_reaches_across_every_city(town_run: RunFolder, times: float) -> None:
    stock = RunContents.of(town_run)
    far = tuple(replace(block, origin=tuple(times * x for x in block.origin)) for block in stock.city.blocks)
    across = max(np.linalg.norm(np.subtract(one.origin, other.origin)) for one in far for other in far)
    scale = _scale(replace(stock.city, blocks=far), stock.cameras)
    assert scale * across < MAX_SCENE_SIZE < HOLDS
    assert (scale == 1.0) is (times == 1.0)
