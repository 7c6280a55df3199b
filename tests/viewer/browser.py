"""A real browser for tests: Chromium, and a page of the viewer to act on."""

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
TIMEOUT = 60.0
"""Seconds to wait for an event, on a machine that has other work."""


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start Debian's Chromium, with WebGL in software."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Page:
    """A page of the viewer, with actions and waits."""

    def __init__(self, browser: Any, url: str, width: int = 1280, height: int = 720) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.context.set_default_timeout(1000 * TIMEOUT)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.cameras: list[dict[str, Any]] = []
        """Camera messages that the page sent, in order."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", self._on_websocket)
        try:
            self.page.goto(url)
        except Exception:
            self.close()
            raise

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the page; an open one draws without end, which takes one core."""
        self.context.close()

    def screenshot(self) -> np.ndarray:
        """Return the pixels left of the panel."""
        clip = {"x": 330, "y": 200, "width": 560, "height": 460}
        data = np.frombuffer(self.page.screenshot(clip=clip), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float64)

    def settled(self) -> np.ndarray:
        """Wait until the rendering no longer changes, and return it."""
        last, deadline = self.screenshot(), time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            time.sleep(0.4)
            now = self.screenshot()
            if now.std() > 5.0 and np.abs(now - last).mean() < 0.05:
                return now
            last = now
        raise AssertionError("the rendering never settled")

    def changes(self, action: Callable[[], None], least: float = 1.0) -> np.ndarray:
        """Run an action, wait until the rendering has changed and settled, and return it."""
        before = self.settled()
        action()
        deadline = time.monotonic() + TIMEOUT
        while np.abs(self.screenshot() - before).mean() < least:
            assert time.monotonic() < deadline, "the rendering did not change"
            time.sleep(0.2)
        return self.settled()

    def input(self, label: str) -> Any:
        inputs = self.page.locator(f'//*[normalize-space(text())="{label}"]/following::input')
        return inputs.locator("visible=true").first

    def choose(self, label: str, option: str) -> None:
        self.input(label).click()
        self.page.locator("[role=option]:visible", has_text=option).first.click()

    def states(self) -> dict[str, str]:
        """Return the state of each block on the minimap."""
        circles = self.page.locator("svg.minimap circle")
        circles.first.wait_for()
        states = circles.evaluate_all("all => all.map(disc => [disc.dataset.block, disc.dataset.state])")
        return dict(states)

    def arrow(self) -> str:
        return str(self.page.locator("svg.minimap path").get_attribute("transform"))

    def height(self) -> float:
        """Return the height of the page's camera, in scene units."""
        return float(self.cameras[-1]["position"][2])

    def _on_websocket(self, socket: Any) -> None:
        self.requests.append(socket.url)
        socket.on("framesent", self._on_frame)

    def _on_frame(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes) and b"ViewerCameraMessage" in payload:
            self.cameras.append(msgspec.msgpack.decode(payload))

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()
