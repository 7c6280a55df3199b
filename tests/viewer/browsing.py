"""A real browser, a visitor's page in it, and what to do there."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import msgspec
import numpy as np

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
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
SECONDS = 60.0
"""How long to wait for what is to come, on a machine that has other work."""


@contextmanager
def opened_browser() -> Iterator[Any]:
    """Debian's Chromium, with WebGL in software."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Page:
    """A visitor's page, and what to do on it."""

    def __init__(self, browser: Any, url: str, width: int = 1280, height: int = 720) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.context.set_default_timeout(1000 * SECONDS)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.stands: list[dict[str, Any]] = []
        """Where the page said that its camera is, in turn."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", self._listen)
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
        circles.first.wait_for()
        found = circles.evaluate_all("all => all.map(each => [each.dataset.block, each.dataset.state])")
        return dict(found)

    def arrow(self) -> str:
        return str(self.page.locator("svg.plan path").get_attribute("transform"))

    def height(self) -> float:
        """Of the camera in the page, in its units."""
        return float(self.stands[-1]["position"][2])

    def _listen(self, socket: Any) -> None:
        self.requests.append(socket.url)
        socket.on("framesent", self._hear)

    def _hear(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes) and b"ViewerCameraMessage" in payload:
            self.stands.append(msgspec.msgpack.decode(payload))

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()
