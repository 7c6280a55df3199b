"""What a visitor does with the panel, without a browser: controls, places, paths, and names that lead elsewhere."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from blocknerf.city import block_scoring
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import visibility_falloff
from tests.viewer.speaking import SECONDS, Speaker, speaker
from viewer import camera_path_panel
from viewer.auth_proxy import AuthProxy
from viewer.client_camera import LOOK_AT_DISTANCE
from viewer.run_contents import UNMATCHED_PREFIX, RunContents
from viewer.session import TOP_VIEW_HEIGHT
from viewer.upload_limit import take_upload

BETWEEN = {"position": (-0.2, -1.6, 2.3), "wxyz": (0.5, -0.5, 0.5, -0.5)}
"""Midway between two blocks."""
VIEWS = [[1.0, 0.0, 0.0, x, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 1.0] for x in (1.0, 5.0)]
"""Two poses as nerfstudio writes them: looking down, by OpenGL's axes."""
CAMERA_PATH = {
    "camera_type": "perspective",
    "render_height": 50,
    "render_width": 100,
    "fps": 2.0,
    "camera_path": [{"camera_to_world": pose, "fov": 90.0, "aspect": 2.0} for pose in VIEWS],
}


@pytest.fixture(scope="module")
def stock(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


@pytest.fixture
def page(gate: AuthProxy) -> Iterator[Speaker]:
    """A visitor between two blocks, who has seen what is there."""
    with speaker(gate.port, **BETWEEN) as one:
        one.wait_for_picture()
        one.at_rest()
        yield one


def blended(page: Speaker) -> set[str]:
    return {name for name, state in page.states().items() if state == "blended"}


def taken_to(page: Speaker, act: Callable[[], None]) -> tuple[np.ndarray, np.ndarray]:
    """Do something, and wait until the page is told where to stand and what to look at; it obeys."""
    kinds = "SetCameraPositionMessage", "SetCameraLookAtMessage"
    before = len(page.told)
    act()
    deadline = time.monotonic() + SECONDS
    while not set(kinds) <= {each["type"] for each in page.told[before:]}:
        assert time.monotonic() < deadline, "the camera was not moved"
        page.listen(0.1)
    told = {each["type"]: each for each in page.told[before:]}
    position, look_at = (told[kind][key] for kind, key in zip(kinds, ("position", "look_at"), strict=True))
    page.stand(position=position, look_at=look_at)
    return np.array(position), np.array(look_at)


def upload(page: Speaker, content: bytes, name: str = "camera_path.json") -> None:
    where = {"source_component_uuid": page.uuid("Load a path"), "transfer_uuid": name}
    page.say(
        "FileTransferStartUpload", **where, filename=name, mime_type="application/json", size_bytes=len(content),
        part_count=1,
    )  # fmt: skip
    page.say("FileTransferPart", **where, part_index=0, content=content)


def set_keyframes(page: Speaker) -> None:
    page.answers("Add keyframe", True, "1 keyframe.")
    page.stand(**BETWEEN | {"position": (0.2, -1.6, 2.3)})
    page.wait_for_picture()
    page.answers("Add keyframe", True, "2 keyframes.")


def test_the_number_of_blocks_and_culling_decide_what_is_rendered(
    page: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_scoring, "visibility_falloff", lambda _, threshold: visibility_falloff(0.3, threshold))
    both = page.at_rest()
    assert blended(page) == {"b001", "b002"}
    one = page.turns("Max blocks", 1)
    assert len(blended(page)) == 1
    assert not np.array_equal(one, both)
    assert np.array_equal(page.turns("Max blocks", 4), both)
    assert not np.array_equal(page.turns("Visibility threshold", 0.495), both)
    assert sorted(page.states().values()) == ["culled", "fallback", "far", "far"], "one stands in"
    assert np.array_equal(page.turns("Visibility threshold", 0.0), both)


def test_the_resolution_bounds_the_finished_picture(page: Speaker) -> None:
    page.stand(**BETWEEN, image_width=240, image_height=240)
    assert page.at_rest(180).shape == (180, 180, 3)
    assert page.turns("Resolution", "270p", 240).shape == (240, 240, 3)


def test_the_day_passes_from_one_look_into_another(page: Speaker) -> None:
    dusk, noon = page.at_rest(), page.turns("Appearance", "noon")
    page.turns("Appearance", "dusk")
    assert np.array_equal(page.turns("Blend to", "noon"), dusk)
    between, end = page.turns("Blend amount", 0.5), page.turns("Blend amount", 1.0)
    assert np.array_equal(end, noon)
    assert not np.array_equal(between, dusk)
    assert not np.array_equal(between, noon)
    assert between.mean() == pytest.approx((dusk.mean() + noon.mean()) / 2, abs=abs(dusk.mean() - noon.mean()) / 2)


def test_places_lead_above_and_to_the_street(page: Speaker, stock: RunContents) -> None:
    (x, y, z), (to_x, to_y, to_z) = taken_to(page, lambda: page.set("Top view", True))
    block = min(stock.city.blocks, key=lambda each: abs(each.origin[0] - BETWEEN["position"][0]))
    assert z == pytest.approx(block.origin[2] + TOP_VIEW_HEIGHT * block.radius)
    assert (to_x, to_y, to_z) == pytest.approx((x, BETWEEN["position"][1], block.origin[2]), abs=1e-3)
    page.wait_for_picture()
    page.listen(0.3)
    (x, y, z), to = taken_to(page, lambda: page.set("Nearest image", True))
    heights = stock.cameras.centers[:, 2].tolist()
    assert min(heights) - 1e-3 <= z <= max(heights) + 1e-3 < block.origin[2] + block.radius
    assert np.hypot(x - BETWEEN["position"][0], y - BETWEEN["position"][1]) < 8.0, "near to where one was"
    assert np.linalg.norm(to - (x, y, z)) == pytest.approx(LOOK_AT_DISTANCE, rel=1e-3)
    assert abs(to[2] - z) < 0.3 * LOOK_AT_DISTANCE, "looking along the street"


def test_a_camera_path_of_nerfstudio_becomes_the_path(page: Speaker) -> None:
    upload(page, json.dumps(CAMERA_PATH).encode())
    page.wait_to_hear("A path of 2 pictures, 1.0 s.")
    page.set("Save trajectory.json", True)
    assert page.wait_for("FileTransferStartDownload")["filename"] == "trajectory.json"
    saved = json.loads(page.wait_for("FileTransferPart")["content"])
    poses = [frame["camera_to_world"] for frame in saved["frames"]]
    assert poses == [[[1.0, 0.0, 0.0, x], [0.0, -1.0, 0.0, 2.0], [0.0, 0.0, -1.0, 3.0]] for x in (1.0, 5.0)]
    assert [frame["focal"] for frame in saved["frames"]] == pytest.approx([180.0] * 2), "half of 360 lines"
    page.set("Preview", True)
    deadline = time.monotonic() + SECONDS
    while not [each for each in page.told if each.get("position") == [5.0, 2.0, 3.0]]:
        assert time.monotonic() < deadline, "the preview did not reach the last view"
        page.listen(0.1)


@pytest.fixture
def outside(town_run: RunFolder) -> Iterator[Path]:
    """A look that would fit, in a file outside the run."""
    path = town_run.path.parent / "stolen.safetensors"
    shutil.copyfile(town_run.appearance_preset("noon"), path)
    yield path
    path.unlink()


def names(outside: Path) -> tuple[str, str]:
    """By which one could get at it."""
    return "../../stolen", str(outside.with_suffix(""))


def test_no_name_of_a_look_leads_out_of_the_run(page: Speaker, outside: Path, town_run: RunFolder) -> None:
    set_keyframes(page)
    films = set(town_run.renders.glob("*"))
    for name in names(outside):
        page.answers("Appearance", name, "No picture:</b> view: there is no look")
        page.answers("Appearance", UNMATCHED_PREFIX + name, "No picture:</b> appearance: the capture has no segment")
        page.turns("Appearance", "noon")
        page.answers("Blend to", name, "No picture:</b> view: there is no look")
        page.answers("Render video", True, "Not done:</b> view: there is no look")
        page.turns("Blend to", "nothing")
    assert set(town_run.renders.glob("*")) == films


def test_no_other_word_of_a_visitor_becomes_an_option(page: Speaker, outside: Path, town_run: RunFolder) -> None:
    set_keyframes(page)
    page.answers("Weighting", f"--trajectory={outside}", "No picture:</b> view: weighting ")
    page.answers("Render video", True, "Not done:</b> view: weighting ")
    still, before = page.turns("Weighting", "nearest"), len(page.told)
    for name in names(outside):
        page.set("Go to block", name)
        assert np.array_equal(page.turns("Hide blocks", name), still)
    assert "SetCameraPositionMessage" not in {each["type"] for each in page.told[before:]}


def test_a_file_is_loaded_whatever_it_is_called_and_left_nowhere(page: Speaker, tmp_path: Path) -> None:
    target = tmp_path / "written.json"
    upwards = f"{'../' * 20}{target.relative_to('/')}"
    for seconds, name in ((1, str(target)), (2, upwards)):
        upload(page, json.dumps(CAMERA_PATH | {"fps": 2.0 / seconds}).encode(), name)
        page.wait_to_hear(f"A path of 2 pictures, {seconds}.0 s.")
    assert list(tmp_path.iterdir()) == []


def test_keyframes_frames_and_videos_of_a_visitor_are_bounded(page: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keyframes(page)
    monkeypatch.setattr(camera_path_panel, "MAX_KEYFRAMES", 2)
    page.answers("Add keyframe", True, "2 keyframes are the most of a path; remove one first.")
    page.set("Seconds", 600.0)
    page.set("FPS", 60.0)
    page.answers("Preview", True, "view: the path has 36000 frames, more than 14400; shorten it, or lower its rate")
    page.set("Seconds", 6.0)
    monkeypatch.setattr(camera_path_panel, "MAX_VIDEOS", 0)
    page.answers("Render video", True, "view: 0 videos are the most that one visitor may begin")
    monkeypatch.setattr(camera_path_panel, "MAX_FRAMES", 1)
    upload(page, json.dumps(CAMERA_PATH).encode())
    page.wait_to_hear("view: the path has 2 frames, more than 1;")


def test_a_file_is_not_held_once_it_is_read(page: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    buttons = []
    monkeypatch.setattr(camera_path_panel, "take_upload", lambda button: buttons.append(button) or take_upload(button))
    upload(page, json.dumps(CAMERA_PATH).encode())
    page.wait_to_hear("A path of 2 pictures")
    assert buttons[0].value.content == b""
    assert take_upload(buttons[0]) is None
