"""Minimap of a city for the panel: blocks, the capture path, and the client's camera."""

import html
import math
from collections.abc import Sequence

from blocknerf.cameras import Cameras
from blocknerf.city.selection import BlockInView
from blocknerf.colormaps import block_color
from viewer import markup
from viewer.markup import escape
from viewer.run_contents import RunContents

SIDE = 300
"""Width and maximum height of the SVG, in SVG units."""
MIN_ASPECT = 0.4
"""Minimum height of the SVG, as a fraction of its width."""
MAX_DRAWN_BLOCKS = 120
"""Blocks drawn: those nearest to the camera."""
MAX_PATH_POINTS = 1_000
MAP_EXTENT = 2.5
"""Half extent of the map around the camera, in radii of the nearest block. A small city is shown whole."""
STATE_LABELS = {
    "blended": "blended",
    "fallback": "fallback",
    "culled": "culled (visibility)",
    "negligible": "negligible weight",
    "out_of_range": "out of range",
    "not_trained": "not trained",
}
"""Labels of `BlockInView.reason` in the table."""
ON_CLICK = """
const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.getScreenCTM().inverse());
const gap = disc => Math.hypot(disc.cx.baseVal.value - point.x, disc.cy.baseVal.value - point.y);
const [block] = [...this.querySelectorAll('circle')].sort((a, b) => gap(a) - gap(b));
const field = this.parentElement.parentElement.querySelector('input');
if (gap(block) <= block.r.baseVal.value) {
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, block.dataset.block);
  field.dispatchEvent(new Event('input', {bubbles: true}));
}
"""
"""Writes the block with the center nearest to a click into the text field below the map. The discs overlap by half, so
the topmost one is not always meant. The setter is the browser's: with React's own, the event would report no change."""


def draw_minimap(contents: RunContents, selection: Sequence[BlockInView], camera: Cameras) -> str:
    """Return an SVG of the blocks around a camera, north up, with the state of each block in `data-state`.

    A click writes the block's name into the first input of the element around the SVG.
    """
    x, y, _ = camera.centers[0].tolist()
    selected, blocks = {block.name: block for block in selection}, contents.city.blocks
    nearest = contents.city.nearest(x, y, MAX_DRAWN_BLOCKS)
    west, south, scale, height = _window(contents, x, y, blocks[nearest[0]].radius)

    def to_svg(east: float, north: float) -> tuple[float, float]:
        return (east - west) * scale, height - (north - south) * scale

    parts = []
    for index in reversed(nearest):
        block = blocks[index]
        state = selected.get(block.name)
        (cx, cy), radius, name = to_svg(*block.origin[:2]), block.radius * scale, escape(block.name)
        parts.append(
            f'<circle data-block="{name}" data-state="{state.reason if state else "far"}" cx="{cx:.1f}"'
            f' cy="{cy:.1f}" r="{radius:.1f}" {_circle_style(state, index)}>'
            f"<title>{name}</title></circle>"
        )
    step = max(1, len(contents.path) // MAX_PATH_POINTS)
    centers = contents.cameras.centers[list(contents.path[::step]), :2].tolist()
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (to_svg(*center) for center in centers))
    parts.append(f'<polyline points="{path}" fill="none" stroke="#888" stroke-width="1"/>')
    forward = camera.camera_to_world[0, :2, 2].tolist()
    heading, (px, py) = math.degrees(math.atan2(forward[0], forward[1])), to_svg(x, y)
    parts.append(f'<path d="M0,-12 L6,6 L0,2 L-6,6 Z" transform="translate({px:.1f},{py:.1f}) rotate({heading:.0f})"/>')
    return (
        f'<svg class="minimap" viewBox="0 0 {SIDE} {height:.0f}" onclick="{html.escape(ON_CLICK)}"'
        ' style="width:100%;background:#f4f4f2;border-radius:6px;cursor:pointer">'
        f"{''.join(parts)}</svg>"
    )


def selection_table(selection: Sequence[BlockInView]) -> str:
    """Return an HTML table of the considered blocks with their weight, visibility and state."""
    rows = [
        (
            block.name,
            f"{block.weight:.0%}",
            "" if block.visibility is None else f"{block.visibility:.2f}",
            STATE_LABELS[block.reason],
        )
        for block in sorted(selection, key=lambda block: -block.weight)
    ]
    return markup.table(("block", "weight", "visibility", ""), rows)


def _window(contents: RunContents, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """West and south edge in world units, SVG units per world unit, and the SVG's height."""
    west, south, east, north = contents.city.bounds
    low, high = (west, south), (east, north)
    center = [(low[axis] + high[axis]) / 2 for axis in (0, 1)]
    half = [max((high[axis] - low[axis]) / 2, abs((x, y)[axis] - center[axis])) * 1.05 for axis in (0, 1)]
    if max(half) > 4 * MAP_EXTENT * radius:
        center, half = [x, y], [MAP_EXTENT * radius] * 2
    scale = SIDE / (2 * max(half))
    height = max(MIN_ASPECT * SIDE, 2 * half[1] * scale)
    return center[0] - max(half), center[1] - height / scale / 2, scale, height


def _circle_style(state: BlockInView | None, index: int) -> str:
    color = "rgb({}, {}, {})".format(*block_color(index))
    if state is not None and state.rendered:
        return f'fill="{color}" fill-opacity="{0.25 + 0.5 * state.weight:.2f}" stroke="{color}" stroke-width="2.5"'
    if state is not None and state.reason == "culled":
        return 'fill="none" stroke="#c0392b" stroke-width="1.5" stroke-dasharray="4 3"'
    return f'fill="none" stroke="{color}" stroke-opacity="0.55" stroke-width="1"'
