"""The page in a real browser: what a visitor sees and does."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from blocknerf.city.run_folder import RunFolder
from tests.viewer.browsing import SECONDS, Page
from viewer.auth_proxy import AuthProxy
from viewer.view import serve

WORD = "open-sesame"


def test_the_town_appears_with_no_request_elsewhere(visit: Callable[..., Page], gate: AuthProxy) -> None:
    page = visit()
    assert page.settled().std() > 10.0
    assert {"blended"} <= set(page.states().values())
    places = (f"http://127.0.0.1:{gate.port}/", f"ws://127.0.0.1:{gate.port}", "blob:", "data:")
    assert [url for url in page.requests if not url.startswith(places)] == []


def test_a_moved_camera_sees_something_else_and_the_plan_follows(visit: Callable[..., Page]) -> None:
    page = visit()
    page.settled()
    arrow, mouse = page.arrow(), page.page.mouse

    def drag() -> None:
        mouse.move(400, 400)
        mouse.down()
        mouse.move(560, 400, steps=5)
        mouse.up()

    page.changes(drag)
    assert page.arrow() != arrow


def test_light_exposure_and_blocks_change_the_picture(visit: Callable[..., Page], town_run: RunFolder) -> None:
    page = visit()
    page.changes(lambda: page.choose("Appearance", "noon"), least=0.3)
    page.page.get_by_label("Auto exposure").uncheck(force=True)
    page.changes(lambda: page.input("Exposure").fill("4"), least=0.3)
    page.changes(lambda: page.choose("Output", "depth"))
    page.changes(lambda: page.choose("Output", "blocks"))
    states = page.states()
    (shown,) = [name for name, state in states.items() if state == "blended"][:1]
    page.changes(lambda: page.input("Hide blocks").fill(shown), least=0.3)
    assert page.states()[shown] == "far"


def test_two_visitors_at_once_and_one_leaves(visit: Callable[..., Page], gate: AuthProxy) -> None:
    first, second = visit(), visit(width=1000, height=700)
    second.settled()  # while one of them still waits, the other's picture may rest at a coarse level
    still = first.settled()
    second.changes(lambda: second.choose("Output", "depth"))
    assert np.abs(first.settled() - still).mean() < 0.5, "what one chooses is not shown to the other"
    before = gate.connections
    first.close()
    deadline = time.monotonic() + SECONDS
    while gate.connections >= before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second.changes(lambda: second.choose("Output", "color"))


def test_a_path_is_saved_loaded_and_rendered(visit: Callable[..., Page], town_run: RunFolder, tmp_path: Path) -> None:
    page = visit()
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
    page.page.get_by_text("A path of 2 pictures").wait_for()
    page.click("Render video")
    page.page.get_by_text("viewer-001 is done.").wait_for(timeout=120_000)
    with page.page.expect_download() as film:
        page.page.locator("a[download='viewer-001.mp4']").click()
    assert film.value.path().read_bytes() == town_run.video("viewer-001").read_bytes()
    assert town_run.video("viewer-001").stat().st_size > 1000


def test_a_word_is_asked_for_where_one_is_set(town_run: RunFolder, browser: Any) -> None:
    with serve(town_run, token=WORD) as guarded:
        bare = guarded.url.partition("?")[0]
        for url in (bare, f"{bare}?token=open-barley"):
            refused = Page(browser, url)
            assert "blocknerf view" in refused.page.inner_text("body")
            refused.close()
        welcome = Page(browser, guarded.url)
        assert welcome.settled().std() > 10.0
        assert "token" not in welcome.page.url
        welcome.close()


def test_a_phone_shows_it_too(visit: Callable[..., Page]) -> None:
    page = visit(width=390, height=844)
    page.page.locator("svg.plan circle[data-state=blended]").first.wait_for(timeout=1000 * SECONDS)
    picture = cv2.imdecode(np.frombuffer(page.page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert picture[200:300, :390].std() > 5.0
    panel = page.page.locator("svg.plan").evaluate("plan => plan.closest('.mantine-Paper-root').offsetHeight")
    assert 200 < panel < 0.4 * 844, "the panel leaves most of the page to the picture"


def test_weighting_number_and_day_change_the_picture(visit: Callable[..., Page]) -> None:
    page = visit()
    page.settled()
    page.changes(lambda: page.input("Go to block").fill("b001"))
    page.changes(lambda: page.input("Power").fill("0.5"), least=0.2)
    assert list(page.states().values()).count("blended") > 1
    page.changes(lambda: page.choose("Weighting", "nearest"), least=0.2)
    assert list(page.states().values()).count("blended") == 1
    page.choose("Weighting", "inverse_distance_2d")
    blended = page.page.locator("svg.plan circle[data-state=blended]")
    blended.nth(1).wait_for()
    page.input("Max blocks").fill("1")
    blended.nth(1).wait_for(state="detached")
    page.choose("Blend to", "noon")
    page.changes(lambda: page.input("Blend amount").fill("1"), least=0.3)


def test_a_path_is_previewed_exported_and_its_film_cancelled(visit: Callable[..., Page], town_run: RunFolder) -> None:
    page = visit()
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
    page.page.get_by_text("A path of 144 pictures, 6.0 s.").wait_for()
    end = page.arrow()
    page.click("Preview")
    page.page.wait_for_function(f"document.querySelector('svg.plan path').getAttribute('transform') !== '{end}'")
    page.page.wait_for_function(f"document.querySelector('svg.plan path').getAttribute('transform') === '{end}'")
    page.input("Seconds").fill("600")
    page.click("Render video")
    rendering = page.page.get_by_text("Rendering web")
    name = rendering.inner_text(timeout=1000 * SECONDS).removeprefix("Rendering ")[: len("viewer-000")]
    page.click("Cancel")
    page.page.get_by_text(f"{name} cancelled").wait_for(timeout=1000 * SECONDS)
    assert not town_run.video(name).exists()
