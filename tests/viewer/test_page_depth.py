"""Depth in a real browser: nearer parts of the rendering occlude overlays."""

import time
from typing import Any

import cv2
import numpy as np
import pytest

from blocknerf.city.run_folder import RunFolder
from tests.viewer.browser import TIMEOUT, Page
from viewer.request_renderer import RenderedImage, RenderRequest, RequestRenderer
from viewer.view import serve

NEAR, FAR = 0.3, 150.0
"""Distances of two walls: nearer than all overlays in the left half, farther in the right half."""


def walls(request: RenderRequest, scale: float) -> RenderedImage:
    """Return two walls in place of the city's rendering."""
    camera = request.view.scaled(scale)
    height, width = int(camera.height[0]), int(camera.width[0])
    depth = np.repeat([[NEAR, FAR]], [width // 2, width - width // 2], 1).repeat(height, 0).astype(np.float32)
    return RenderedImage(image=np.full((height, width, 3), 200, np.uint8), depth=depth, selection=(), camera=camera)


def test_a_wall_occludes_only_what_is_behind_it(
    town_run: RunFolder, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RequestRenderer, "render", lambda _, request, scale, __: walls(request, scale))
    with serve(town_run) as proxy, Page(browser, proxy.url, width=1000, height=460) as page:
        page.states()  # available from the first rendering on
        page.page.get_by_label("Show points").check(force=True)
        deadline = time.monotonic() + TIMEOUT
        while overlay_fraction(page, 510) < 0.02:
            assert time.monotonic() < deadline, "the points in front of the far wall are not visible"
            time.sleep(0.2)
        assert overlay_fraction(page, 390) == 0.0, "points behind the near wall are visible"


def overlay_fraction(page: Page, left: int) -> float:
    """Return the fraction of pixels in a part of the page that are not the wall's."""
    clip = {"x": left, "y": 150, "width": 100, "height": 200}
    image = cv2.imdecode(np.frombuffer(page.page.screenshot(clip=clip), np.uint8), cv2.IMREAD_COLOR)
    return float((np.abs(image.astype(float) - 200.0).max(-1) > 10.0).mean())
