"""Blocks over the rendering: those around the camera, few messages however large the city is."""

from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import msgspec
import numpy as np
import pytest
import viser

from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.partitioning.block import Block
from tests.viewer.websocket_client import CAMERA, open_client
from viewer.overlays import MAX_MARKERS, MAX_RINGS, SceneOverlays
from viewer.run_contents import RunContents
from viewer.view import serve

SIDE = 100
"""Blocks along each side of the large city."""


def large_city() -> City:
    origins = [(10.0 * i, 10.0 * j, 0.0) for j in range(SIDE) for i in range(SIDE)]
    return City(blocks=tuple(Block(name=f"c{k:05d}", origin=origin, radius=10.0) for k, origin in enumerate(origins)))


class Scene:
    """Records what is drawn, by name, and how often rings are."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.num_rings: list[int] = []

    def add_frame(self, name: str, show_axes: bool) -> Any:
        return MagicMock(spec=viser.FrameHandle, visible=True)

    def add_line_segments(self, name: str, points: np.ndarray, colors: np.ndarray, **_: Any) -> None:
        self.num_rings.append(len(points))

    def add_icosphere(self, name: str, radius: float, **_: Any) -> Any:
        self.nodes[name] = MagicMock(spec=viser.IcosphereHandle, remove=lambda: self.nodes.pop(name))
        return self.nodes[name]


@pytest.fixture
def drawn(town_run: RunFolder) -> tuple[Scene, SceneOverlays]:
    scene, contents = Scene(), replace(RunContents.of(town_run), city=large_city())
    return scene, SceneOverlays(MagicMock(spec=viser.ClientHandle, scene=scene), contents, lambda _: None)


def test_blocks_around_the_camera_are_drawn(drawn: tuple[Scene, SceneOverlays]) -> None:
    scene, overlays = drawn
    overlays.show("blocks", True, (501.0, 502.0, 3.0))
    assert "/blocks/c05050" in scene.nodes
    assert len(scene.nodes) == MAX_MARKERS
    assert scene.num_rings == [MAX_RINGS * 48]


def test_blocks_follow_the_camera(drawn: tuple[Scene, SceneOverlays]) -> None:
    scene, overlays = drawn
    overlays.show("blocks", True, (501.0, 502.0, 3.0))
    before = set(scene.nodes)
    overlays.follow((501.5, 502.0, 3.0))
    assert len(scene.num_rings) == 1
    overlays.follow((512.0, 502.0, 3.0))
    assert len(scene.num_rings) == 2
    assert 0 < len(before & set(scene.nodes)) < MAX_MARKERS == len(scene.nodes)
    overlays.follow((-1e4, 0.0, 3.0))
    assert "/blocks/c00000" in scene.nodes


def test_hidden_blocks_do_not_follow(drawn: tuple[Scene, SceneOverlays]) -> None:
    scene, overlays = drawn
    overlays.follow((501.0, 502.0, 3.0))
    assert scene.num_rings == []
    overlays.show("blocks", True, (501.0, 502.0, 3.0))
    overlays.show("blocks", False, (501.0, 502.0, 3.0))
    overlays.follow((0.0, 0.0, 3.0))
    assert len(scene.num_rings) == 1
    overlays.show("blocks", True, (0.0, 0.0, 3.0))
    assert "/blocks/c00000" in scene.nodes


def test_ten_thousand_blocks_take_few_messages(town_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = RunContents.of(town_run)
    city = replace(contents.city, blocks=contents.city.blocks + large_city().blocks)
    vars(city)["digest"] = contents.city.digest  # of the trained fields
    contents = replace(contents, city=city)
    monkeypatch.setattr(RunContents, "of", lambda *_, **__: contents)
    with serve(town_run) as proxy, open_client(proxy.port, **CAMERA) as page:
        page.wait_for("GuiUploadButtonMessage")
        page.send("GuiUpdateMessage", uuid=page.uuid("Show blocks"), updates={"value": True})
        page.wait_for("IcosphereMessage")
        page.receive(2.0)
        about_blocks = [message for message in page.received if "/blocks" in str(message.get("name"))]
    assert MAX_MARKERS < len(about_blocks) <= 100
    assert sum(len(msgspec.msgpack.encode(message)) for message in about_blocks) <= 200_000
