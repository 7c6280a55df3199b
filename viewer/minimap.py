"""The plan of a city as a drawing for the panel: blocks, the way of the photographs, and where the visitor stands."""

import html
import math
from collections.abc import Sequence

from blocknerf.cameras import Cameras
from blocknerf.city.selection import BlockSelection
from blocknerf.colormaps import block_color
from viewer import markup
from viewer.markup import escape
from viewer.run_contents import RunContents

SIDE = 300
"""Width of the drawing, in its own unit, and its most height."""
MIN_ASPECT = 0.4
"""Its least height, as a share of that."""
MAX_POINTS = 120
"""Blocks that are drawn: those nearest to the visitor."""
MAP_EXTENT = 2.5
"""How much is shown around the visitor, in radii of the nearest block; the whole city where that is less."""
STATE_LABELS = {
    "blended": "blended",
    "fallback": "fallback",
    "culled": "culled (visibility)",
    "negligible": "negligible weight",
    "out_of_range": "out of range",
    "not_trained": "not trained",
}
"""What the plan and the table call the reasons of `BlockSelection`."""
ON_CLICK = """
const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.getScreenCTM().inverse());
const gap = each => Math.hypot(each.cx.baseVal.value - place.x, each.cy.baseVal.value - place.y);
const [block] = [...this.querySelectorAll('circle')].sort((one, other) => gap(one) - gap(other));
const field = this.parentElement.parentElement.querySelector('input');
if (gap(block) <= block.r.baseVal.value) {
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, block.dataset.block);
  field.dispatchEvent(new Event('input', {bubbles: true}));
}
"""
"""Puts the block whose middle is nearest to a click into the field below the plan; discs overlap by half, so that the
one on top says little. The setter is the browser's own: the page's would make the event one that says nothing new."""


def draw_minimap(stock: RunContents, uses: Sequence[BlockSelection], camera: Cameras) -> str:
    """An SVG of the blocks around a camera; north is up. What became of a block stands in its `data-state`.

    A click puts a block's name into the first field of what the drawing stands in.
    """
    x, y, _ = camera.centers[0].tolist()
    known = {use.name: use for use in uses}
    near = sorted(stock.city.blocks, key=lambda block: math.hypot(block.origin[0] - x, block.origin[1] - y))[
        :MAX_POINTS
    ]
    places = {block.name: i for i, block in enumerate(stock.city.blocks)}
    west, south, unit, tall = _window(stock, x, y, near[0].radius)

    def at(east: float, north: float) -> tuple[float, float]:
        return (east - west) * unit, tall - (north - south) * unit

    parts = []
    for block in reversed(near):
        use = known.get(block.name)
        (cx, cy), radius = at(*block.origin[:2]), block.radius * unit
        parts.append(
            f'<circle data-block="{escape(block.name)}" data-state="{use.reason if use else "far"}" cx="{cx:.1f}"'
            f' cy="{cy:.1f}" r="{radius:.1f}" {_look(use, places[block.name])}><title>{escape(block.name)}</title>'
            "</circle>"
        )
    centers = stock.cameras.centers[list(stock.path), :2].tolist()
    way = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(*center) for center in centers))
    parts.append(f'<polyline points="{way}" fill="none" stroke="#888" stroke-width="1"/>')
    ahead = camera.camera_to_world[0, :2, 2].tolist()
    turn, (px, py) = math.degrees(math.atan2(ahead[0], ahead[1])), at(x, y)
    parts.append(f'<path d="M0,-12 L6,6 L0,2 L-6,6 Z" transform="translate({px:.1f},{py:.1f}) rotate({turn:.0f})"/>')
    return (
        f'<svg class="plan" viewBox="0 0 {SIDE} {tall:.0f}" onclick="{html.escape(ON_CLICK)}"'
        ' style="width:100%;background:#f4f4f2;border-radius:6px;cursor:pointer">'
        f"{''.join(parts)}</svg>"
    )


def selection_table(uses: Sequence[BlockSelection]) -> str:
    """Each considered block, and what became of it, as HTML."""
    rows = [
        (
            use.name,
            f"{use.weight:.0%}",
            "" if use.visibility is None else f"{use.visibility:.2f}",
            STATE_LABELS[use.reason],
        )
        for use in sorted(uses, key=lambda use: -use.weight)
    ]
    return markup.table(("block", "share", "visible", ""), rows)


def _window(stock: RunContents, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """West and south of what is shown, units of the drawing to one of the world, and the drawing's height."""
    blocks = stock.city.blocks
    low = [min(block.origin[axis] - block.radius for block in blocks) for axis in (0, 1)]
    high = [max(block.origin[axis] + block.radius for block in blocks) for axis in (0, 1)]
    middle = [(low[axis] + high[axis]) / 2 for axis in (0, 1)]
    halves = [max((high[axis] - low[axis]) / 2, abs((x, y)[axis] - middle[axis])) * 1.05 for axis in (0, 1)]
    if max(halves) > 4 * MAP_EXTENT * radius:
        middle, halves = [x, y], [MAP_EXTENT * radius] * 2
    unit = SIDE / (2 * max(halves))
    tall = max(MIN_ASPECT * SIDE, 2 * halves[1] * unit)
    return middle[0] - max(halves), middle[1] - tall / unit / 2, unit, tall


def _look(use: BlockSelection | None, place: int) -> str:
    color = "rgb({}, {}, {})".format(*block_color(place))
    if use is not None and use.rendered:
        return f'fill="{color}" fill-opacity="{0.25 + 0.5 * use.weight:.2f}" stroke="{color}" stroke-width="2.5"'
    if use is not None and use.reason == "culled":
        return 'fill="none" stroke="#c0392b" stroke-width="1.5" stroke-dasharray="4 3"'
    return f'fill="none" stroke="{color}" stroke-opacity="0.55" stroke-width="1"'
