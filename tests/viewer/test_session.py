"""A client's use of the panel, without a browser: controls, places, paths, and malicious names."""

import gc
import json
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from blocknerf.city import selection
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import visibility_falloff
from tests.viewer.websocket_client import TIMEOUT, PageClient, open_client
from viewer import camera_path_panel
from viewer.auth_proxy import AuthProxy
from viewer.client_camera import LOOK_AT_DISTANCE
from viewer.run_contents import UNMATCHED_PREFIX, RunContents
from viewer.session import TOP_VIEW_HEIGHT

BETWEEN = {"position": (-0.2, -1.6, 2.3), "wxyz": (0.5, -0.5, 0.5, -0.5)}
"""Midway between two blocks."""
VIEWS = [[1.0, 0.0, 0.0, x, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 1.0] for x in (1.0, 5.0)]
"""Two poses as in nerfstudio's files: looking down, OpenGL axes."""
CAMERA_PATH = {
    "camera_type": "perspective",
    "render_height": 50,
    "render_width": 100,
    "fps": 2.0,
    "camera_path": [{"camera_to_world": pose, "fov": 90.0, "aspect": 2.0} for pose in VIEWS],
}


@pytest.fixture(scope="module")
def contents(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


@pytest.fixture
def page(proxy: AuthProxy) -> Iterator[PageClient]:
    """A client between two blocks, after its final rendering."""
    with open_client(proxy.port, **BETWEEN) as client:
        client.wait_for_rendering()
        client.final_rendering()
        yield client


def blended(page: PageClient) -> set[str]:
    return {name for name, state in page.states().items() if state == "blended"}


def camera_after(page: PageClient, action: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
    """Run an action, wait until the server moves the camera, and return its position and look-at point."""
    kinds = "SetCameraPositionMessage", "SetCameraLookAtMessage"
    before = len(page.received)
    action()
    deadline = time.monotonic() + TIMEOUT
    while not set(kinds) <= {message["type"] for message in page.received[before:]}:
        assert time.monotonic() < deadline, "the camera was not moved"
        page.receive(0.1)
    latest = {message["type"]: message for message in page.received[before:]}
    position, look_at = (latest[kind][key] for kind, key in zip(kinds, ("position", "look_at"), strict=True))
    page.set_camera(position=position, look_at=look_at)
    return np.array(position), np.array(look_at)


def upload(page: PageClient, content: bytes, name: str = "camera_path.json") -> None:
    ids = {"source_component_uuid": page.uuid("Load a path"), "transfer_uuid": name}
    page.send(
        "FileTransferStartUpload", **ids, filename=name, mime_type="application/json", size_bytes=len(content),
        part_count=1,
    )  # fmt: skip
    page.send("FileTransferPart", **ids, part_index=0, content=content)


def set_keyframes(page: PageClient) -> None:
    page.set_and_wait("Add keyframe", True, "1 keyframe.")
    page.set_camera(**BETWEEN | {"position": (0.2, -1.6, 2.3)})
    page.wait_for_rendering()
    page.set_and_wait("Add keyframe", True, "2 keyframes.")


def test_max_blocks_and_the_visibility_threshold_select_blocks(
    page: PageClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "visibility_falloff", lambda _, threshold: visibility_falloff(0.3, threshold))
    both = page.final_rendering()
    assert blended(page) == {"b001", "b002"}
    one = page.render_with("Max blocks", 1)
    assert len(blended(page)) == 1
    assert not np.array_equal(one, both)
    assert np.array_equal(page.render_with("Max blocks", 4), both)
    assert not np.array_equal(page.render_with("Visibility threshold", 0.495), both)
    assert sorted(page.states().values()) == ["culled", "fallback", "far", "far"], "one block is the fallback"
    assert np.array_equal(page.render_with("Visibility threshold", 0.0), both)


def test_the_resolution_limits_the_final_rendering(page: PageClient) -> None:
    page.set_camera(**BETWEEN, image_width=240, image_height=240)
    assert page.final_rendering(180).shape == (180, 180, 3)
    assert page.render_with("Resolution", "270p", 240).shape == (240, 240, 3)


def test_the_blend_amount_passes_from_one_preset_to_another(page: PageClient) -> None:
    dusk, noon = page.final_rendering(), page.render_with("Appearance", "noon")
    page.render_with("Appearance", "dusk")
    assert np.array_equal(page.render_with("Blend to", "noon"), dusk)
    between, end = page.render_with("Blend amount", 0.5), page.render_with("Blend amount", 1.0)
    assert np.array_equal(end, noon)
    assert not np.array_equal(between, dusk)
    assert not np.array_equal(between, noon)
    assert between.mean() == pytest.approx((dusk.mean() + noon.mean()) / 2, abs=abs(dusk.mean() - noon.mean()) / 2)


def test_top_view_and_nearest_image_move_the_camera(page: PageClient, contents: RunContents) -> None:
    (x, y, z), (to_x, to_y, to_z) = camera_after(page, lambda: page.set("Top view", True))
    block = min(contents.city.blocks, key=lambda block: abs(block.origin[0] - BETWEEN["position"][0]))
    assert z == pytest.approx(block.origin[2] + TOP_VIEW_HEIGHT * block.radius)
    assert (to_x, to_y, to_z) == pytest.approx((x, BETWEEN["position"][1], block.origin[2]), abs=1e-3)
    page.wait_for_rendering()
    page.receive(0.3)
    (x, y, z), to = camera_after(page, lambda: page.set("Nearest image", True))
    heights = contents.cameras.centers[:, 2].tolist()
    assert min(heights) - 1e-3 <= z <= max(heights) + 1e-3 < block.origin[2] + block.radius
    assert np.hypot(x - BETWEEN["position"][0], y - BETWEEN["position"][1]) < 8.0, "near the earlier position"
    assert np.linalg.norm(to - (x, y, z)) == pytest.approx(LOOK_AT_DISTANCE, rel=1e-3)
    assert abs(to[2] - z) < 0.3 * LOOK_AT_DISTANCE, "looking along the street"


def test_a_nerfstudio_camera_path_is_loaded(page: PageClient) -> None:
    upload(page, json.dumps(CAMERA_PATH).encode())
    page.wait_for_text("Loaded path: 2 frames, 1.0 s.")
    page.set("Save trajectory.json", True)
    assert page.wait_for("FileTransferStartDownload")["filename"] == "trajectory.json"
    saved = json.loads(page.wait_for("FileTransferPart")["content"])
    poses = [frame["camera_to_world"] for frame in saved["frames"]]
    assert poses == [[[1.0, 0.0, 0.0, x], [0.0, -1.0, 0.0, 2.0], [0.0, 0.0, -1.0, 3.0]] for x in (1.0, 5.0)]
    assert [frame["focal"] for frame in saved["frames"]] == pytest.approx([180.0] * 2), "half of 360 pixels"
    page.set("Preview", True)
    deadline = time.monotonic() + TIMEOUT
    while not [message for message in page.received if message.get("position") == [5.0, 2.0, 3.0]]:
        assert time.monotonic() < deadline, "the preview did not reach the last view"
        page.receive(0.1)


@pytest.fixture
def outside(town_run: RunFolder) -> Iterator[Path]:
    """A valid appearance preset in a file outside the run."""
    path = town_run.path.parent / "stolen.safetensors"
    shutil.copyfile(town_run.appearance_preset("noon"), path)
    yield path
    path.unlink()


def names(outside: Path) -> tuple[str, str]:
    """Return names that could lead to that file."""
    return "../../stolen", str(outside.with_suffix(""))


def test_no_preset_name_leads_out_of_the_run(page: PageClient, outside: Path, town_run: RunFolder) -> None:
    set_keyframes(page)
    before = set(town_run.renders.glob("*"))
    for name in names(outside):
        page.set_and_wait("Appearance", name, "Rendering failed:</b> view: no appearance preset")
        page.set_and_wait(
            "Appearance", UNMATCHED_PREFIX + name, "Rendering failed:</b> appearance: the capture has no segment"
        )
        page.render_with("Appearance", "noon")
        page.set_and_wait("Blend to", name, "Rendering failed:</b> view: no appearance preset")
        page.set_and_wait("Render video", True, "Not done:</b> view: no appearance preset")
        page.render_with("Blend to", "nothing")
    assert set(town_run.renders.glob("*")) == before


def test_no_other_value_of_a_client_becomes_an_option(page: PageClient, outside: Path, town_run: RunFolder) -> None:
    set_keyframes(page)
    page.set_and_wait("Weighting", f"--trajectory={outside}", "Rendering failed:</b> view: weighting ")
    page.set_and_wait("Render video", True, "Not done:</b> view: weighting ")
    nearest, before = page.render_with("Weighting", "nearest"), len(page.received)
    for name in names(outside):
        page.set("Go to block", name)
        assert np.array_equal(page.render_with("Hide blocks", name), nearest)
    assert "SetCameraPositionMessage" not in {message["type"] for message in page.received[before:]}


def test_the_name_of_an_uploaded_file_writes_nothing(page: PageClient, tmp_path: Path) -> None:
    target = tmp_path / "written.json"
    upwards = f"{'../' * 20}{target.relative_to('/')}"
    for seconds, name in ((1, str(target)), (2, upwards)):
        upload(page, json.dumps(CAMERA_PATH | {"fps": 2.0 / seconds}).encode(), name)
        page.wait_for_text(f"Loaded path: 2 frames, {seconds}.0 s.")
    assert list(tmp_path.iterdir()) == []


def test_keyframes_frames_and_videos_per_client_are_limited(page: PageClient, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keyframes(page)
    monkeypatch.setattr(camera_path_panel, "MAX_KEYFRAMES", 2)
    page.set_and_wait("Add keyframe", True, "a path has at most 2 keyframes; remove one first.")
    page.set("Seconds", 600.0)
    page.set("FPS", 60.0)
    page.set_and_wait("Preview", True, "view: the path has 36000 frames, more than 14400; shorten it or lower its FPS")
    page.set("Seconds", 6.0)
    monkeypatch.setattr(camera_path_panel, "MAX_VIDEOS", 0)
    page.set_and_wait("Render video", True, "view: one visitor may render at most 0 videos")
    monkeypatch.setattr(camera_path_panel, "MAX_FRAMES", 1)
    upload(page, json.dumps(CAMERA_PATH).encode())
    page.wait_for_text("view: the path has 2 frames, more than 1;")


def test_an_uploaded_file_is_freed_after_reading(proxy: AuthProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_path_panel, "FREE_UPLOAD_AFTER", 0.0)
    uploads, load = [], camera_path_panel.CameraPathPanel._load_and_free

    def recorded(panel: camera_path_panel.CameraPathPanel, content: bytes) -> None:
        uploads.append(weakref.ref(panel._upload))
        load(panel, content)

    monkeypatch.setattr(camera_path_panel.CameraPathPanel, "_load_and_free", recorded)
    with open_client(proxy.port) as page:
        upload(page, json.dumps(CAMERA_PATH).encode())
        page.wait_for_text("Loaded path: 2 frames")
        page.wait_for("GuiRemoveMessage")
        gc.collect()
        assert uploads[0]() is None, "the button that held the file"
