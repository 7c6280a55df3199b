"""The page in a real browser: what a visitor sees and does."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from blocknerf.city.manifest import RunFolder
from viewer.gate import Gate
from viewer.view import serving

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra 'test' has")
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Debian's package 'chromium'")
ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
SECONDS = 30.0
"""How long to wait for what is to come."""
WORD = "open-sesame"


@pytest.fixture(scope="module")
def gate(town_run: RunFolder) -> Iterator[Gate]:
    with serving(town_run) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Page:
    """A visitor's page, and what to do on it."""

    def __init__(self, browser: Any, url: str, width: int = 1280, height: int = 720) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.goto(url)

    def close(self) -> None:
        self.context.close()

    def picture(self) -> np.ndarray:
        """What shows left of the panel."""
        clip = {"x": 330, "y": 200, "width": 560, "height": 460}
        data = np.frombuffer(self.page.screenshot(clip=clip), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float64)

    def settled(self) -> np.ndarray:
        """The picture once it no longer changes."""
        last, deadline = self.picture(), time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.4)
            now = self.picture()
            if now.std() > 5.0 and np.abs(now - last).mean() < 0.05:
                return now
            last = now
        raise AssertionError("the picture never settled")

    def changes(self, act: Callable[[], None], least: float = 1.0) -> np.ndarray:
        """Do something, and wait until the picture has settled at another one."""
        before = self.settled()
        act()
        deadline = time.monotonic() + SECONDS
        while np.abs(self.picture() - before).mean() < least:
            assert time.monotonic() < deadline, "the picture did not change"
            time.sleep(0.2)
        return self.settled()

    def input(self, label: str) -> Any:
        after = self.page.locator(f'//*[normalize-space(text())="{label}"]/following::input')
        return after.locator("visible=true").first

    def choose(self, label: str, option: str) -> None:
        self.input(label).click()
        self.page.locator("[role=option]:visible", has_text=option).first.click()

    def states(self) -> dict[str, str]:
        """What the plan says became of each block."""
        circles = self.page.locator("svg.plan circle")
        circles.first.wait_for(timeout=1000 * SECONDS)
        found = circles.evaluate_all("all => all.map(each => [each.dataset.block, each.dataset.state])")
        return dict(found)

    def arrow(self) -> str:
        return str(self.page.locator("svg.plan path").get_attribute("transform"))

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()


@pytest.fixture
def visit(browser: Any, gate: Gate) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def opened(url: str | None = None, **size: int) -> Page:
        pages.append(Page(browser, url or gate.url, **size))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


def test_the_town_appears_with_no_request_elsewhere(visit: Callable[..., Page], gate: Gate) -> None:
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
    page.changes(lambda: page.choose("Light", "noon"), least=0.3)
    page.page.get_by_label("Exposure of the surroundings").uncheck(force=True)
    page.changes(lambda: page.input("Exposure").fill("4"), least=0.3)
    page.changes(lambda: page.choose("Shows", "depth"))
    page.changes(lambda: page.choose("Shows", "blocks"))
    states = page.states()
    (shown,) = [name for name, state in states.items() if state == "blended"][:1]
    page.changes(lambda: page.input("Hidden").fill(shown), least=0.3)
    assert page.states()[shown] == "far"


def test_two_visitors_at_once_and_one_leaves(visit: Callable[..., Page], gate: Gate) -> None:
    first, second = visit(), visit(width=1000, height=700)
    still = first.settled()
    second.changes(lambda: second.choose("Shows", "depth"))
    assert np.abs(first.settled() - still).mean() < 0.5, "what one chooses is not shown to the other"
    before = gate.connections
    first.close()
    deadline = time.monotonic() + SECONDS
    while gate.connections >= before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second.changes(lambda: second.choose("Shows", "color"))


def test_a_path_is_saved_loaded_and_rendered(visit: Callable[..., Page], town_run: RunFolder, tmp_path: Path) -> None:
    page = visit()
    page.settled()
    page.page.get_by_text("Path", exact=True).click()
    page.click("Add keyframe")
    page.changes(lambda: page.click("From above"))
    page.click("Add keyframe")
    page.page.get_by_text("2 keyframes.").wait_for()
    page.input("Seconds").fill("0.5")
    page.input("Pictures a second").fill("4")
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
    page.click("Render film")
    page.page.get_by_text("web001 is done.").wait_for(timeout=120_000)
    assert town_run.video("web001").stat().st_size > 1000


def test_a_word_is_asked_for_where_one_is_set(town_run: RunFolder, browser: Any) -> None:
    with serving(town_run, token=WORD) as guarded:
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
