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


def test_every_control_changes_the_rendering(open_page: Callable[..., Page], proxy: AuthProxy) -> None:
    """All on one page, because a page takes seconds to load."""
    page = open_page()
    page.settled()
    assert {"blended"} <= set(page.states().values())
    drag_the_camera(page)
    change_the_weighting(page)
    change_the_appearance(page)
    allowed = (f"http://127.0.0.1:{proxy.port}/", f"ws://127.0.0.1:{proxy.port}", "blob:", "data:")
    assert [url for url in page.requests if not url.startswith(allowed)] == [], "requests to other hosts"


def drag_the_camera(page: Page) -> None:
    arrow, mouse = page.arrow(), page.page.mouse

    def drag() -> None:
        mouse.move(400, 400)
        mouse.down()
        mouse.move(560, 400, steps=5)
        mouse.up()

    page.changes(drag)
    assert page.arrow() != arrow


def change_the_weighting(page: Page) -> None:
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


def change_the_appearance(page: Page) -> None:
    page.changes(lambda: page.choose("Appearance", "noon"), least=0.3)
    page.choose("Blend to", "dusk")
    page.changes(lambda: page.input("Blend amount").fill("1"), least=0.3)
    page.page.get_by_label("Auto exposure").uncheck(force=True)
    page.changes(lambda: page.input("Exposure").fill("4"), least=0.3)
    page.changes(lambda: page.choose("Output", "depth"))
    page.changes(lambda: page.choose("Output", "blocks"))
    states = page.states()
    (blended,) = [name for name, state in states.items() if state == "blended"]
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
    page.changes(lambda: page.input("Go to block").fill("b003"))
    page.click("Add keyframe")
    page.page.get_by_text("2 keyframes.").wait_for()
    with page.page.expect_download() as saved:
        page.click("Save camera path")
    camera_path = saved.value.path()
    assert len(json.loads(camera_path.read_text())["camera_path"]) == 144
    render_a_saved_trajectory(page, town_run, tmp_path / "trajectory.json")
    preview_and_cancel(page, town_run, camera_path)


def load_path(page: Page, path: Path, message: str) -> None:
    with page.page.expect_file_chooser() as chooser:
        page.click("Load a path")
    chooser.value.set_files(path)
    page.page.get_by_text(message).wait_for()


def render_a_saved_trajectory(page: Page, run: RunFolder, path: Path) -> None:
    page.input("Seconds").fill("0.5")
    page.input("FPS").fill("4")
    page.choose("Size", "320x180")
    with page.page.expect_download() as saved:
        page.click("Save trajectory.json")
    saved.value.save_as(path)
    assert len(json.loads(path.read_text())["frames"]) == 2
    page.click("Remove last")
    load_path(page, path, "Loaded path: 2 frames")
    page.click("Render video")
    page.page.get_by_text("viewer-001 is done.").wait_for(timeout=120_000)
    with page.page.expect_download() as download:
        page.page.locator("a[download='viewer-001.mp4']").click()
    assert download.value.path().read_bytes() == run.video("viewer-001").read_bytes()
    assert run.video("viewer-001").stat().st_size > 1000


def preview_and_cancel(page: Page, run: RunFolder, camera_path: Path) -> None:
    load_path(page, camera_path, "Loaded path: 144 frames, 6.0 s.")
    end = page.arrow()
    page.click("Preview")
    page.page.wait_for_function(f"document.querySelector('svg.minimap path').getAttribute('transform') !== '{end}'")
    page.page.wait_for_function(f"document.querySelector('svg.minimap path').getAttribute('transform') === '{end}'")
    page.click("Render video")
    rendering = page.page.get_by_text("Rendering viewer-")
    name = rendering.inner_text(timeout=1000 * TIMEOUT).removeprefix("Rendering ")[: len("viewer-000")]
    page.click("Cancel")
    page.page.get_by_text(f"{name} cancelled").wait_for(timeout=1000 * TIMEOUT)
    assert not run.video(name).exists()


def test_a_token_is_required_if_one_is_set(town_run: RunFolder, browser: Any) -> None:
    with serve(town_run, token=TOKEN) as guarded:
        base_url = guarded.url.partition("?")[0]
        for url in (base_url, f"{base_url}?token=open-barley"):
            with Page(browser, url) as refused:
                assert "blocknerf view" in refused.page.inner_text("body")
        with Page(browser, guarded.url) as accepted:
            accepted.settled()
            assert "token" not in accepted.page.url


def test_the_page_fits_a_phone(open_page: Callable[..., Page]) -> None:
    page = open_page(width=390, height=844)
    page.page.locator("svg.minimap circle[data-state=blended]").first.wait_for(timeout=1000 * TIMEOUT)
    page.settled()
    image = cv2.imdecode(np.frombuffer(page.page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert image[150:500, :390].std() > 5.0
    panel = page.page.locator("svg.minimap").evaluate("minimap => minimap.closest('.mantine-Paper-root').offsetHeight")
    assert 200 < panel < 0.4 * 844, "the panel covers too much of the page"
