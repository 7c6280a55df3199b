"""What a hostile run, or what a visitor says, could do to a page: names and errors stay text, in a real browser too."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocknerf.city.run_folder import RunFolder
from tests.viewer.browsing import SECONDS, Page
from tests.viewer.speaking import speaker
from tests.viewer.visitors import wait_for
from viewer import control_panel
from viewer.auth_proxy import AuthProxy
from viewer.control_panel import RESOLUTIONS
from viewer.view import serve

SCRIPT = "top.fallen = 1"
IFRAME = f'<iframe srcdoc="<script>{SCRIPT}</script>"></iframe>'
PICTURE = f'<img src=x onerror="{SCRIPT}">'
MARKDOWN = "[a](javascript:top.fallen=1) ![b](http://elsewhere.example:9/b) http://elsewhere.example:9 `c` |d| {e}"
IMAGE = f"{IFRAME}{PICTURE}.png"
LOOK = f"{PICTURE}[a](javascript:top.fallen=1)"
POINTS = f"<svg onload={SCRIPT.replace(' ', '')}>.ply"
SEGMENT = f"{PICTURE} {MARKDOWN}"


@pytest.fixture(scope="module")
def hostile_run(town_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The town as somebody would give it to us who means harm: none of its images can be read, and files are broken."""
    path = tmp_path_factory.mktemp("hostile") / "run"
    shutil.copytree(town_run.path, path)
    run = RunFolder(path)
    capture = json.loads(run.capture.read_text())
    segments = {"drive0_noon": SEGMENT}
    frames = [
        frame | {"image": f"{i}{IMAGE}", "segment": segments.get(frame["segment"], frame["segment"])}
        for i, frame in enumerate(capture["frames"])
    ]
    run.capture.write_text(json.dumps(capture | {"image_dir": ".", "sparse_points": POINTS, "frames": frames}))
    shutil.copyfile(run.appearance_preset("noon"), run.appearance_dir / f"{LOOK}.safetensors")
    run.appearance_preset("noon").write_bytes(b"no look")
    run.train_summary("b003").write_text('{"config": {}}')
    return run


@pytest.fixture(scope="module")
def hostile_gate(hostile_run: RunFolder) -> Iterator[AuthProxy]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_panel, "DEFAULT_RESOLUTION", min(RESOLUTIONS))
        with serve(hostile_run) as served:
            yield served


@pytest.fixture
def page(browser: Any, hostile_gate: AuthProxy) -> Iterator[Page]:
    opened = Page(browser, hostile_gate.url)
    yield opened
    opened.close()


def test_no_text_of_a_hostile_run_becomes_more_than_text(page: Page, hostile_gate: AuthProxy, tmp_path: Path) -> None:
    page.settled()
    for said in (f"appearance/{LOOK}.safetensors", "looks/noon.safetensors", POINTS, "blocks/b003/train.json"):
        page.page.get_by_text(said).first.wait_for()
    page.click("Nearest image")
    page.page.get_by_text("No photograph:").locator("xpath=..").get_by_text(IMAGE).wait_for()
    page.input("Appearance").click()
    page.page.get_by_text(f"unmatched: {SEGMENT}").first.wait_for()
    page.page.keyboard.press("Escape")
    page.page.get_by_text("Path", exact=True).click()
    path = tmp_path / f"{PICTURE}.json"
    path.write_text(json.dumps({"format": "blocknerf.trajectory/1", f"{IFRAME}{MARKDOWN}": 1}))
    with page.page.expect_file_chooser() as chooser:
        page.click("Load a path")
    chooser.value.set_files(path)
    page.page.get_by_text("Not done:").wait_for()
    assert page.page.evaluate("typeof fallen") == "undefined"
    assert page.page.locator("iframe, a[href^=javascript], a[href*=elsewhere], img[src=x], svg[onload]").count() == 0
    places = (f"http://127.0.0.1:{hostile_gate.port}/", f"ws://127.0.0.1:{hostile_gate.port}", "blob:", "data:")
    assert [url for url in page.requests if not url.startswith(places)] == []


def test_what_is_broken_is_told_to_every_visitor_and_on_the_terminal(
    hostile_run: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    (hostile_run.appearance_dir / "bell \x07\n.safetensors").write_bytes(b"no look")
    with serve(hostile_run) as gate, speaker(gate.port) as visitor:
        visitor.wait_for_picture()
        (told,) = [text for text in map(str, visitor.told) if "Not used:" in text][:1]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("view: not used: ")]
    assert len(lines) == 5
    assert all("; " in line for line in lines)
    assert "\\x07\\n" in "".join(lines)
    assert "And 1 more: see the server&#x27;s terminal." in told
    assert str(hostile_run.path) not in told
    (hostile_run.appearance_dir / "bell \x07\n.safetensors").unlink()


def test_a_record_that_breaks_while_the_city_is_shown_is_told_too(town_run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(town_run.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    capture = json.loads(run.capture.read_text())
    run.capture.write_text(json.dumps(capture | {"sparse_points": None}))
    with serve(run) as gate:
        for name in run.trained_blocks():
            run.train_summary(name).write_text("no JSON")
        with speaker(gate.port) as visitor:
            visitor.wait_to_hear("Not used:")
            assert any("/train.json: this training record file is not valid JSON" in text for text in visitor.said())


def children(pid: int) -> list[int]:
    """Numbers of the processes that one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it is gone
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to tell which processes there are")
def test_a_viewer_that_is_told_to_end_ends_the_video_it_renders(town_run: RunFolder, repository: Path) -> None:
    command = [sys.executable, "-m", "pipelines", "view", str(town_run.path), "--port", "0", "--threads", "1"]
    server = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().rstrip("/\n").rpartition(":")[2])
        with speaker(port) as visitor:
            visitor.wait_for_picture()
            visitor.answers("Add keyframe", True, "1 keyframe.")
            visitor.stand(position=(-30.0, -1.6, 2.3))
            visitor.wait_for_picture()
            visitor.answers("Add keyframe", True, "2 keyframes.")
            visitor.set("Seconds", 600.0)
            visitor.answers("Render video", True, "Rendering web")
            (job,) = children(server.pid)
            server.terminate()
            server.wait(SECONDS)
        wait_for(lambda: not Path(f"/proc/{job}").exists())
    finally:
        server.kill()
        server.communicate()
