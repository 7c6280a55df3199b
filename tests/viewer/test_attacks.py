"""Hostile runs and clients: names and error messages stay text, also in a real browser."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocknerf.city.run_folder import RunFolder
from tests.viewer.browser import TIMEOUT, Page
from tests.viewer.raw_http import wait_for
from tests.viewer.websocket_client import open_client
from viewer import control_panel
from viewer.auth_proxy import AuthProxy
from viewer.control_panel import RESOLUTIONS
from viewer.view import serve

SCRIPT = "top.fallen = 1"
IFRAME = f'<iframe srcdoc="<script>{SCRIPT}</script>"></iframe>'
IMG_TAG = f'<img src=x onerror="{SCRIPT}">'
MARKDOWN = "[a](javascript:top.fallen=1) ![b](http://elsewhere.example:9/b) http://elsewhere.example:9 `c` |d| {e}"
IMAGE = f"{IFRAME}{IMG_TAG}.png"
PRESET = f"{IMG_TAG}[a](javascript:top.fallen=1)"
POINTS = f"<svg onload={SCRIPT.replace(' ', '')}>.ply"
SEGMENT = f"{IMG_TAG} {MARKDOWN}"


@pytest.fixture(scope="module")
def hostile_run(town_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The town as an attacker would provide it: unreadable images, broken files, and names with markup."""
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
    shutil.copyfile(run.appearance_preset("noon"), run.appearance_dir / f"{PRESET}.safetensors")
    run.appearance_preset("noon").write_bytes(b"not a preset")
    run.train_summary("b003").write_text('{"config": {}}')
    return run


@pytest.fixture(scope="module")
def hostile_proxy(hostile_run: RunFolder) -> Iterator[AuthProxy]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_panel, "DEFAULT_RESOLUTION", min(RESOLUTIONS))
        with serve(hostile_run) as served:
            yield served


@pytest.fixture
def page(browser: Any, hostile_proxy: AuthProxy) -> Iterator[Page]:
    page = Page(browser, hostile_proxy.url)
    yield page
    page.close()


def test_texts_of_a_hostile_run_stay_text(page: Page, hostile_proxy: AuthProxy, tmp_path: Path) -> None:
    page.settled()
    for text in (f"appearance/{PRESET}.safetensors", "appearance/noon.safetensors", POINTS, "blocks/b003/train.json"):
        page.page.get_by_text(text).first.wait_for()
    page.click("Nearest image")
    page.page.get_by_text("No image:").locator("xpath=..").get_by_text(IMAGE).wait_for()
    page.input("Appearance").click()
    page.page.get_by_text(f"unmatched: {SEGMENT}").first.wait_for()
    page.page.keyboard.press("Escape")
    page.page.get_by_text("Path", exact=True).click()
    path = tmp_path / f"{IMG_TAG}.json"
    path.write_text(json.dumps({"format": "blocknerf.trajectory/1", f"{IFRAME}{MARKDOWN}": 1}))
    with page.page.expect_file_chooser() as chooser:
        page.click("Load a path")
    chooser.value.set_files(path)
    page.page.get_by_text("Not done:").wait_for()
    assert page.page.evaluate("typeof fallen") == "undefined"
    assert page.page.locator("iframe, a[href^=javascript], a[href*=elsewhere], img[src=x], svg[onload]").count() == 0
    allowed = (f"http://127.0.0.1:{hostile_proxy.port}/", f"ws://127.0.0.1:{hostile_proxy.port}", "blob:", "data:")
    assert [url for url in page.requests if not url.startswith(allowed)] == []


def test_broken_files_are_shown_to_every_client_and_on_the_terminal(
    hostile_run: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    (hostile_run.appearance_dir / "bell \x07\n.safetensors").write_bytes(b"not a preset")
    with serve(hostile_run) as proxy, open_client(proxy.port) as client:
        client.wait_for_rendering()
        (warnings,) = [text for text in map(str, client.received) if "Not used:" in text][:1]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("view: not used: ")]
    assert len(lines) == 5
    assert all("; " in line for line in lines)
    assert "\\x07\\n" in "".join(lines)
    assert "And 1 more: see the server&#x27;s terminal." in warnings
    assert str(hostile_run.path) not in warnings
    (hostile_run.appearance_dir / "bell \x07\n.safetensors").unlink()


def test_a_record_that_breaks_while_the_viewer_runs_is_shown(town_run: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(town_run.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    capture = json.loads(run.capture.read_text())
    run.capture.write_text(json.dumps(capture | {"sparse_points": None}))
    with serve(run) as proxy:
        for name in run.trained_blocks():
            run.train_summary(name).write_text("no JSON")
        with open_client(proxy.port) as client:
            client.wait_for_text("Not used:")
            assert any("/train.json: this training record file is not valid JSON" in text for text in client.texts())


def children(pid: int) -> list[int]:
    """Return the IDs of a process's children."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # the process has ended
            continue
        if int(parent) == pid and state != "Z":
            pids.append(int(path.parent.name))
    return pids


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to list processes")
def test_a_terminated_viewer_stops_its_render_job(town_run: RunFolder, repository: Path) -> None:
    command = [sys.executable, "-m", "pipelines", "view", str(town_run.path), "--port", "0", "--threads", "1"]
    server = subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().rstrip("/\n").rpartition(":")[2])
        with open_client(port) as client:
            client.wait_for_rendering()
            client.set_and_wait("Add keyframe", True, "1 keyframe.")
            client.set_camera(position=(-30.0, -1.6, 2.3))
            client.wait_for_rendering()
            client.set_and_wait("Add keyframe", True, "2 keyframes.")
            client.set("Seconds", 600.0)
            client.set_and_wait("Render video", True, "Rendering viewer-")
            (job,) = children(server.pid)
            server.terminate()
            server.wait(TIMEOUT)
        wait_for(lambda: not Path(f"/proc/{job}").exists())
    finally:
        server.kill()
        server.communicate()
