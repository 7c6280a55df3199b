"""Going to blocks and photographs, in a real browser."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras
from blocknerf.city.run_folder import RunFolder
from tests.viewer.browsing import SECONDS, Page
from viewer.block_info import BlockInfo
from viewer.run_contents import RunContents

WIDTH, HEIGHT = 1280, 720
NAMES = "b000", "b001"


@pytest.fixture(scope="module")
def stock(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


def on_page(camera: Cameras, point: torch.Tensor) -> tuple[float, float]:
    """Where a point of the world shows on a page that stands where a photograph was taken, in pixels."""
    wide = Cameras.pinhole(
        camera.camera_to_world,
        focal=float(camera.intrinsics[0, 1] / camera.height[0]) * HEIGHT,
        width=WIDTH,
        height=HEIGHT,
    )
    pixels, depth, _ = wide.project(point.float()[None])
    assert float(depth[0]) > 0.0, "the point is behind the camera"
    x, y = pixels[0].tolist()
    return x, y


def wait_for_arrow(page: Page, other_than: str) -> None:
    page.page.wait_for_function(
        "old => document.querySelector('svg.plan path').getAttribute('transform') !== old", arg=other_than
    )


def test_a_click_on_the_plan_leads_to_the_block_whose_middle_is_near(
    visit: Callable[..., Page], stock: RunContents
) -> None:
    page = visit()
    page.settled()
    first, second = (page.page.locator(f"svg.plan circle[data-block={name}]").bounding_box() for name in NAMES)
    middles = [box["x"] + box["width"] / 2 for box in (first, second)]
    assert page.states()["b001"] != "blended"
    y = second["y"] + second["height"] / 2
    arrow = page.arrow()
    page.page.mouse.click(0.3 * middles[0] + 0.7 * middles[1], y)  # where the disc of the first lies on top
    wait_for_arrow(page, arrow)
    page.settled()
    assert page.states()["b001"] == "blended"
    arrow = page.arrow()
    page.page.mouse.click(middles[0], first["y"] - 2)  # outside of every block
    page.page.mouse.click(middles[0], y)
    wait_for_arrow(page, arrow)
    page.settled()
    assert page.states()["b000"] == "blended"


def test_a_block_is_gone_to_by_name(visit: Callable[..., Page], stock: RunContents) -> None:
    page = visit()
    page.settled()
    names = [stock.capture.frames[stock.image_at_block(name)].name for name in ("b002", "b000")]
    for name, photograph in zip(("b002", "b000", "b000"), (*names, names[1]), strict=True):
        page.input("Go to block").fill(f"{name[:-1]}9")  # none
        page.input("Go to block").fill(name)
        page.page.wait_for_function("field => field.value === ''", arg=page.input("Go to block").element_handle())
        page.page.get_by_text(photograph, exact=True).wait_for()
        page.settled()
        assert page.states()[name] == "blended"


def test_blocks_and_photographs_of_the_scene_are_clicked(visit: Callable[..., Page], stock: RunContents) -> None:
    page = visit(width=WIDTH, height=HEIGHT)
    start = stock.image(stock.path[0])
    for kind, index, point in clickable(stock):
        page.page.reload()
        page.settled()
        place = on_page(start, point)
        page.page.get_by_label(f"Show {kind}").check(force=True)
        photograph = page.page.get_by_text(stock.capture.frames[index].name, exact=True)
        deadline = time.monotonic() + SECONDS
        while not photograph.is_visible():  # no sign tells when the page has drawn what can be clicked
            assert time.monotonic() < deadline, f"a click at one of the {kind} leads nowhere"
            page.page.mouse.move(*place, steps=2)
            page.page.mouse.click(*place)
            page.page.wait_for_timeout(1500)


def clickable(stock: RunContents) -> list[tuple[str, int, torch.Tensor]]:
    """A block and a photograph ahead of where a page begins, with what a click at them leads to.

    Things turn up on a page one by one, and a click that comes early hits what stands behind. So nothing clickable
    stands behind this photograph, unlike the many along the street, which all show at one place; and the block in
    front of all others is the first that is drawn.
    """
    block, names = stock.city.blocks[0], [frame.name for frame in stock.capture.frames]
    photograph = names.index("images/drive2_overcast_001_right.jpg")
    return [
        ("blocks", stock.image_at_block(block.name), torch.tensor(block.origin)),
        ("images", photograph, stock.cameras.centers[photograph]),  # where the lines of its frustum meet
    ]


def test_the_panel_tells_of_the_block_in_the_picture(visit: Callable[..., Page], stock: RunContents) -> None:
    page = visit()
    page.settled()
    facts = BlockInfo.of(stock.run, "b000")
    cells = page.page.locator("tr", has=page.page.get_by_text(f"{facts.trained:%Y-%m-%d}")).locator("td")
    assert cells.all_inner_texts()[:3] == ["b000", str(facts.frames), f"{facts.psnr:.1f}"]


def test_one_walks_the_street_and_looks_from_above(visit: Callable[..., Page], stock: RunContents) -> None:
    page = visit()
    page.settled()
    street = page.height()
    page.changes(lambda: page.click("Top view"))
    assert page.height() > street + max(block.radius for block in stock.city.blocks)
    page.changes(lambda: page.click("Nearest image"))
    assert page.height() == pytest.approx(street, abs=1.0)
    before = np.array(page.stands[-1]["position"])

    def walk() -> None:
        page.page.mouse.click(600, 400)
        page.page.keyboard.down("w")
        page.page.wait_for_timeout(1500)
        page.page.keyboard.up("w")

    page.changes(walk, least=0.3)
    way = np.array(page.stands[-1]["position"]) - before
    ahead = np.array(page.stands[-1]["look_at"]) - page.stands[-1]["position"]
    assert way @ ahead > 0.5 * np.linalg.norm(ahead), "a half unit ahead or more"
    assert abs(way[2]) < 0.05, "at the height of the street"
