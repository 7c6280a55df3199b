"""The page in a real browser: what a client sees and does."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blocknerf.city.run_folder import RunFolder
from tests.viewer.browser import TIMEOUT, Page
from viewer.auth_proxy import AuthProxy
from viewer.view import serve

TOKEN = "open-sesame"


def test_the_town_is_shown_without_requests_to_other_hosts(open_page: Callable[..., Page], proxy: AuthProxy) -> None:
    page = open_page()
    assert page.settled().std() > 10.0
    assert {"blended"} <= set(page.states().values())
    allowed = (f"http://127.0.0.1:{proxy.port}/", f"ws://127.0.0.1:{proxy.port}", "blob:", "data:")
    assert [url for url in page.requests if not url.startswith(allowed)] == []


def test_moving_the_camera_changes_the_rendering_and_the_minimap(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.settled()
    arrow, mouse = page.arrow(), page.page.mouse

    def drag() -> None:
        mouse.move(400, 400)
        mouse.down()
        mouse.move(560, 400, steps=5)
        mouse.up()

    page.changes(drag)
    assert page.arrow() != arrow


def test_appearance_exposure_and_blocks_change_the_rendering(
    open_page: Callable[..., Page], town_run: RunFolder
) -> None:
    page = open_page()
    page.changes(lambda: page.choose("Appearance", "noon"), least=0.3)
    page.page.get_by_label("Auto exposure").uncheck(force=True)
    page.changes(lambda: page.input("Exposure").fill("4"), least=0.3)
    page.changes(lambda: page.choose("Output", "depth"))
    page.changes(lambda: page.choose("Output", "blocks"))
    states = page.states()
    (blended,) = [name for name, state in states.items() if state == "blended"][:1]
    page.changes(lambda: page.input("Hide blocks").fill(blended), least=0.3)
    assert page.states()[blended] == "far"


def test_two_clients_are_independent(open_page: Callable[..., Page], proxy: AuthProxy) -> None:
    first, second = open_page(), open_page(width=1000, height=700)
    second.settled()  # while one still waits, the other's rendering may look settled at a coarse level
    unchanged = first.settled()
    second.changes(lambda: second.choose("Output", "depth"))
    assert np.abs(first.settled() - unchanged).mean() < 0.5, "settings of one client affect the other"
    before = proxy.connections
    first.close()
    deadline = time.monotonic() + TIMEOUT
    while proxy.connections >= before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second.changes(lambda: second.choose("Output", "color"))


def test_a_path_is_saved_loaded_and_rendered(
    open_page: Callable[..., Page], town_run: RunFolder, tmp_path: Path
) -> None:
    page = open_page()
    page.settled()
    page.page.get_by_text("Path", exact=True).click()
    page.click("Add keyframe")
    page.changes(lambda: page.click("Top view"))
    page.click("Add keyframe")
    page.page.get_by_text("2 keyframes.").wait_for()
    page.input("Seconds").fill("0.5")
    page.input("FPS").fill("4")
    page.choose("Size", "320x180")
    with page.page.expect_download() as saved:
        page.click("Save trajectory.json")
    path = tmp_path / "trajectory.json"
    saved.value.save_as(path)
    assert len(json.loads(path.read_text())["frames"]) == 2
    page.click("Remove last")
    with page.page.expect_file_chooser() as chooser:
        page.click("Load a path")
    chooser.value.set_files(path)
    page.page.get_by_text("Loaded path: 2 frames").wait_for()
    page.click("Render video")
    page.page.get_by_text("viewer-001 is done.").wait_for(timeout=120_000)
    with page.page.expect_download() as download:
        page.page.locator("a[download='viewer-001.mp4']").click()
    assert download.value.path().read_bytes() == town_run.video("viewer-001").read_bytes()
    assert town_run.video("viewer-001").stat().st_size > 1000


def test_a_token_is_required_if_one_is_set(town_run: RunFolder, browser: Any) -> None:
    with serve(town_run, token=TOKEN) as guarded:
        base_url = guarded.url.partition("?")[0]
        for url in (base_url, f"{base_url}?token=open-barley"):
            refused = Page(browser, url)
            assert "blocknerf view" in refused.page.inner_text("body")
            refused.close()
        accepted = Page(browser, guarded.url)
        assert accepted.settled().std() > 10.0
        assert "token" not in accepted.page.url
        accepted.close()


def test_the_page_fits_a_phone(open_page: Callable[..., Page]) -> None:
    page = open_page(width=390, height=844)
    page.page.locator("svg.minimap circle[data-state=blended]").first.wait_for(timeout=1000 * TIMEOUT)
    image = cv2.imdecode(np.frombuffer(page.page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert image[200:300, :390].std() > 5.0
    panel = page.page.locator("svg.minimap").evaluate("minimap => minimap.closest('.mantine-Paper-root').offsetHeight")
    assert 200 < panel < 0.4 * 844, "the panel covers too much of the page"


def test_weighting_max_blocks_and_blend_change_the_rendering(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.settled()
    page.changes(lambda: page.input("Go to block").fill("b001"))
    page.changes(lambda: page.input("Power").fill("0.5"), least=0.2)
    assert list(page.states().values()).count("blended") > 1
    page.changes(lambda: page.choose("Weighting", "nearest"), least=0.2)
    assert list(page.states().values()).count("blended") == 1
    page.choose("Weighting", "inverse_distance_2d")
    blended = page.page.locator("svg.minimap circle[data-state=blended]")
    blended.nth(1).wait_for()
    page.input("Max blocks").fill("1")
    blended.nth(1).wait_for(state="detached")
    page.choose("Blend to", "noon")
    page.changes(lambda: page.input("Blend amount").fill("1"), least=0.3)


def test_a_path_is_previewed_and_exported_and_its_video_cancelled(
    open_page: Callable[..., Page], town_run: RunFolder
) -> None:
    page = open_page()
    page.settled()
    page.page.get_by_text("Path", exact=True).click()
    page.click("Add keyframe")
    page.changes(lambda: page.input("Go to block").fill("b003"))
    page.click("Add keyframe")
    page.page.get_by_text("2 keyframes.").wait_for()
    with page.page.expect_download() as saved:
        page.click("Save camera path")
    assert len(json.loads(saved.value.path().read_text())["camera_path"]) == 144
    with page.page.expect_file_chooser() as chooser:
        page.click("Load a path")
    chooser.value.set_files(saved.value.path())
    page.page.get_by_text("Loaded path: 144 frames, 6.0 s.").wait_for()
    end = page.arrow()
    page.click("Preview")
    page.page.wait_for_function(f"document.querySelector('svg.minimap path').getAttribute('transform') !== '{end}'")
    page.page.wait_for_function(f"document.querySelector('svg.minimap path').getAttribute('transform') === '{end}'")
    page.input("Seconds").fill("600")
    page.click("Render video")
    rendering = page.page.get_by_text("Rendering viewer-")
    name = rendering.inner_text(timeout=1000 * TIMEOUT).removeprefix("Rendering ")[: len("viewer-000")]
    page.click("Cancel")
    page.page.get_by_text(f"{name} cancelled").wait_for(timeout=1000 * TIMEOUT)
    assert not town_run.video(name).exists()
