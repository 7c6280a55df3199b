"""Navigation to blocks and images, in a real browser."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras
from blocknerf.city.run_folder import RunFolder
from tests.viewer.browser import TIMEOUT, Page
from viewer.block_files import BlockInfo
from viewer.run_contents import RunContents

WIDTH, HEIGHT = 1280, 720
NAMES = "b000", "b001"


@pytest.fixture(scope="module")
def contents(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


def on_page(camera: Cameras, point: torch.Tensor) -> tuple[float, float]:
    """Return the pixel of a world point on a page with an image's camera."""
    page_camera = Cameras.pinhole(
        camera.camera_to_world,
        focal=float(camera.intrinsics[0, 1] / camera.height[0]) * HEIGHT,
        width=WIDTH,
        height=HEIGHT,
    )
    pixels, depth, _ = page_camera.project(point.float()[None])
    assert float(depth[0]) > 0.0, "the point is behind the camera"
    x, y = pixels[0].tolist()
    return x, y


def wait_for_arrow(page: Page, other_than: str) -> None:
    page.page.wait_for_function(
        "old => document.querySelector('svg.minimap path').getAttribute('transform') !== old", arg=other_than
    )


def test_minimap_block_names_buttons_and_keys_move_the_camera(
    open_page: Callable[..., Page], contents: RunContents
) -> None:
    """All on one page, because a page takes seconds to load."""
    page = open_page()
    page.settled()
    read_facts_about_the_rendered_block(page, contents)
    click_on_the_minimap(page)
    enter_block_names(page, contents)
    use_top_view_nearest_image_and_keys(page, contents)


def read_facts_about_the_rendered_block(page: Page, contents: RunContents) -> None:
    info = BlockInfo.of(contents.run, "b000")
    cells = page.page.locator("tr", has=page.page.get_by_text(f"{info.trained:%Y-%m-%d}")).locator("td")
    assert cells.all_inner_texts()[:3] == ["b000", str(info.frames), f"{info.psnr:.1f}"]


def click_on_the_minimap(page: Page) -> None:
    first, second = (page.page.locator(f"svg.minimap circle[data-block={name}]").bounding_box() for name in NAMES)
    centers = [box["x"] + box["width"] / 2 for box in (first, second)]
    assert page.states()["b001"] != "blended"
    y = second["y"] + second["height"] / 2
    arrow = page.arrow()
    page.page.mouse.click(0.3 * centers[0] + 0.7 * centers[1], y)  # where the first block's disc is on top
    wait_for_arrow(page, arrow)
    page.settled()
    assert page.states()["b001"] == "blended"
    arrow = page.arrow()
    page.page.mouse.click(centers[0], first["y"] - 2)  # outside of every block
    page.page.mouse.click(centers[0], y)
    wait_for_arrow(page, arrow)
    page.settled()
    assert page.states()["b000"] == "blended"


def enter_block_names(page: Page, contents: RunContents) -> None:
    names = [contents.capture.frames[contents.image_at_block(name)].name for name in ("b002", "b000")]
    for name, image in zip(("b002", "b000", "b000"), (*names, names[1]), strict=True):
        page.input("Go to block").fill(f"{name[:-1]}9")  # no such block
        page.input("Go to block").fill(name)
        page.page.wait_for_function("field => field.value === ''", arg=page.input("Go to block").element_handle())
        page.page.get_by_text(image, exact=True).wait_for()
        page.settled()
        assert page.states()[name] == "blended"


def use_top_view_nearest_image_and_keys(page: Page, contents: RunContents) -> None:
    street = page.height()
    page.changes(lambda: page.click("Top view"))
    assert page.height() > street + max(block.radius for block in contents.city.blocks)
    page.changes(lambda: page.click("Nearest image"))
    assert page.height() == pytest.approx(street, abs=1.0)
    before = np.array(page.cameras[-1]["position"])

    def walk() -> None:
        page.page.mouse.click(600, 400)
        page.page.keyboard.down("w")
        page.page.wait_for_timeout(1500)
        page.page.keyboard.up("w")

    page.changes(walk, least=0.3)
    motion = np.array(page.cameras[-1]["position"]) - before
    forward = np.array(page.cameras[-1]["look_at"]) - page.cameras[-1]["position"]
    assert motion @ forward > 0.5 * np.linalg.norm(forward), "half a unit forward or more"
    assert abs(motion[2]) < 0.05, "at street height"


def test_overlays_of_blocks_and_images_can_be_clicked(open_page: Callable[..., Page], contents: RunContents) -> None:
    start = contents.image(contents.path[0])
    for layer, index, point in clickable(contents):
        page = open_page(width=WIDTH, height=HEIGHT)
        page.settled()
        pixel = on_page(start, point)
        page.page.get_by_label(f"Show {layer}").check(force=True)
        image = page.page.get_by_text(contents.capture.frames[index].name, exact=True)
        deadline = time.monotonic() + TIMEOUT
        while not image.is_visible():  # the page does not report when its overlays are clickable
            assert time.monotonic() < deadline, f"a click on one of the {layer} has no effect"
            page.page.mouse.move(*pixel, steps=2)
            page.page.mouse.click(*pixel)
            page.page.wait_for_timeout(1500)


def clickable(contents: RunContents) -> list[tuple[str, int, torch.Tensor]]:
    """Return a block and an image in front of the initial camera: overlay, index of the image to go to, and position.

    A page draws overlays one by one, and an early click hits what is behind. So nothing clickable is behind this image,
    unlike the many along the street, which project to one point; and the frontmost block is drawn first.
    """
    block, names = contents.city.blocks[0], [frame.name for frame in contents.capture.frames]
    index = names.index("images/drive2_overcast_001_right.jpg")
    return [
        ("blocks", contents.image_at_block(block.name), torch.tensor(block.origin)),
        ("images", index, contents.cameras.centers[index]),  # the apex of its frustum
    ]
