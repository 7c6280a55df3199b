"""Depth in a real browser: what stands in the page's scene is hidden behind what the picture shows before it."""

import time
from typing import Any

import cv2
import numpy as np
import pytest

from blocknerf.city.run_folder import RunFolder
from tests.viewer.browsing import SECONDS, Page
from viewer.request_renderer import RenderedImage, RenderRequest, RequestRenderer
from viewer.view import serve

NEAR, FAR = 0.3, 150.0
"""How far the walls are: nearer than all of the scene on the left of the picture, and farther on the right."""


def walls(wish: RenderRequest, level: float) -> RenderedImage:
    """Stands for the city's picture."""
    camera = wish.view.scaled(level)
    height, width = int(camera.height[0]), int(camera.width[0])
    depth = np.repeat([[NEAR, FAR]], [width // 2, width - width // 2], 1).repeat(height, 0).astype(np.float32)
    return RenderedImage(image=np.full((height, width, 3), 200, np.uint8), depth=depth, selection=(), camera=camera)


def test_a_wall_hides_what_is_behind_it_and_nothing_else(
    town_run: RunFolder, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RequestRenderer, "paint", lambda _, wish, level, __: walls(wish, level))
    with serve(town_run) as gate:
        page = Page(browser, gate.url, width=1000, height=460)
        page.states()  # are there when the first picture is
        page.page.get_by_label("Show points").check(force=True)
        deadline = time.monotonic() + SECONDS
        while drawn(page, 510) < 0.02:
            assert time.monotonic() < deadline, "the points before the far wall do not show"
            time.sleep(0.2)
        assert drawn(page, 390) == 0.0, "points behind the near wall show"
        page.close()


def drawn(page: Page, left: int) -> float:
    """The share of pixels in a part of the page that are not the wall's."""
    clip = {"x": left, "y": 150, "width": 100, "height": 200}
    image = cv2.imdecode(np.frombuffer(page.page.screenshot(clip=clip), np.uint8), cv2.IMREAD_COLOR)
    return float((np.abs(image.astype(float) - 200.0).max(-1) > 10.0).mean())
