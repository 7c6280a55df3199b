"""A plan of a partition as a picture: blocks, frames, paths and points, seen from above."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from blocknerf.capture.capture import Capture
from blocknerf.colormaps import BLOCK_COLORS
from blocknerf.partition.block import Block
from blocknerf.partition.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partition.frame_assignment import FrameAssignment
from blocknerf.partition.ground_coverage import look_at_points
from blocknerf.partition.route import split_tracks
from blocknerf.partition.street_network import Line

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SIZE = (1200, 900)
LEGEND_HEIGHT = 76
"""Height of the strip below the plan that holds the scale and the legend."""
OVERSAMPLING = 2
"""Drawn at twice the size and averaged: Pillow's lines are not smoothed otherwise."""
TICK_SPACING = 36.0
"""Picture elements between the cameras that get a mark along one track."""
NAME_SPACING = 150.0
"""Picture elements between origins that get their name and figures."""
MAX_POINTS = 400_000
MAX_SEGMENTS = 5
STREET_WIDTH = 6.0
"""World units; a middle line says nothing of the width, so all streets are drawn alike."""
INK, FAINT, PAPER = (34, 38, 46), (120, 126, 136), (255, 255, 255)
STREET = (205, 208, 214)
SEGMENT_COLORS = ((24, 60, 120), (170, 60, 20), (20, 100, 50), (110, 40, 130), (120, 90, 0), (60, 60, 60))


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    """The part of the world that the picture shows, and its scale."""

    center: tuple[float, float]
    scale: float
    """Picture elements (before averaging) per world unit."""

    def pixels(self, plan: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Positions in the picture; y points down there."""
        middle = np.array([SIZE[0], SIZE[1] - LEGEND_HEIGHT]) * OVERSAMPLING / 2
        return (plan - np.array(self.center)) * np.array([self.scale, -self.scale]) + middle


def draw_map(
    capture: Capture, blocks: Sequence[Block], members: Sequence[FrameAssignment], streets: Sequence[Line] = ()
) -> UInt8[np.ndarray, "height width 3"]:
    """The plan picture, 1200 x 900: north (or the world's y) is up. `streets` are middle lines in the world."""
    from PIL import Image, ImageDraw

    known = capture_geometry(capture)
    view = _view(known, blocks)
    sheet = Image.new("RGB", (SIZE[0] * OVERSAMPLING, SIZE[1] * OVERSAMPLING), PAPER)
    _draw_streets(ImageDraw.Draw(sheet), view, streets)
    _draw_points(sheet, view, capture)
    sheet = _draw_discs(sheet, view, blocks)
    pen = ImageDraw.Draw(sheet)
    colors = _segment_colors(capture)
    _draw_paths(pen, view, known, colors)
    _draw_ticks(pen, view, known, colors)
    _draw_names(pen, view, blocks, members)
    _draw_legend(pen, view, capture, colors, _caption(capture, blocks, known), bool(streets))
    _draw_north(pen, "N" if capture.geo_origin else "y")
    return np.asarray(sheet.resize(SIZE, Image.Resampling.BOX))


def scale_bar_length(most: float) -> float:
    """The longest of 1, 2, 5, 10, ... (times a power of ten) that is at most `most`.

    >>> scale_bar_length(37.0), scale_bar_length(0.6)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(most))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= most * (1 + 1e-9)))


def _view(known: CaptureGeometry, blocks: Sequence[Block]) -> MapView:
    centers = known.centers[:, :2].double().numpy()
    origins = np.array([block.origin[:2] for block in blocks])
    radii = np.array([[block.radius] for block in blocks])
    corners = np.concatenate([centers, origins - radii, origins + radii])
    low, high = corners.min(0), corners.max(0)
    room = np.array([SIZE[0] - 90, SIZE[1] - LEGEND_HEIGHT - 60]) * OVERSAMPLING
    middle = (low + high) / 2
    return MapView(
        center=(float(middle[0]), float(middle[1])), scale=float((room / np.maximum(high - low, 1e-9)).min())
    )


def _draw_points(sheet: "Image.Image", view: MapView, capture: Capture) -> None:
    cloud = capture.read_sparse_points() or capture.read_lidar_points()
    if cloud is None or len(cloud.positions) == 0:
        return
    some = slice(None, None, max(1, len(cloud.positions) // MAX_POINTS))
    positions = cloud.positions[some].astype(np.float64)
    colors = np.full(positions.shape, 150.0) if cloud.colors is None else cloud.colors[some].astype(np.float64)
    upward = positions[:, 2].argsort(kind="stable")
    # Half their own color, half paper: points are the ground that the rest is read against.
    faint = (0.55 * colors + 0.45 * 250).astype(np.uint8)[upward]
    where = np.floor(view.pixels(positions[upward, :2])).astype(np.int64)
    picture = np.array(sheet)
    size = 1 if len(positions) > 60_000 else 2
    for right in range(-size, size):
        for down in range(-size, size):
            x, y = where[:, 0] + right, where[:, 1] + down
            inside = (x >= 0) & (y >= 0) & (x < sheet.width) & (y < sheet.height)
            picture[y[inside], x[inside]] = faint[inside]
    sheet.paste(_image(picture))


def _draw_streets(pen: "ImageDraw.ImageDraw", view: MapView, streets: Sequence[Line]) -> None:
    width = max(4, round(STREET_WIDTH * view.scale))
    for street in streets:
        vertices = [tuple(vertex) for vertex in view.pixels(street).tolist()]
        pen.line(vertices, fill=STREET, width=width, joint="curve")


def _image(picture: UInt8[np.ndarray, "height width 3"]) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(picture)


def _draw_discs(sheet: "Image.Image", view: MapView, blocks: Sequence[Block]) -> "Image.Image":
    from PIL import Image, ImageDraw

    sheet = sheet.convert("RGBA")
    for i, block in enumerate(blocks):
        x, y = view.pixels(np.array(block.origin[:2]))
        reach = block.radius * view.scale
        side = math.ceil(2 * reach) + 8
        disc = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        color = BLOCK_COLORS[i % len(BLOCK_COLORS)]
        pen, edge = ImageDraw.Draw(disc), (4.0, 4.0, 4.0 + 2 * reach, 4.0 + 2 * reach)
        pen.ellipse(edge, fill=(*color, 30), outline=(*color, 220), width=4 if len(blocks) < 60 else 2)
        # The view holds every disc whole, so its corner lies on the sheet.
        sheet.alpha_composite(disc, (max(0, round(x - reach) - 4), max(0, round(y - reach) - 4)))
    return sheet.convert("RGB")


def _segment_colors(capture: Capture) -> dict[str, tuple[int, int, int]]:
    return {name: SEGMENT_COLORS[i % len(SEGMENT_COLORS)] for i, name in enumerate(capture.segments)}


def _draw_paths(pen: "ImageDraw.ImageDraw", view: MapView, known: CaptureGeometry, colors: dict[str, Any]) -> None:
    for name, path in split_tracks(known):
        line = view.pixels(path[:, :2].double().numpy())
        pen.line([tuple(vertex) for vertex in line.tolist()], fill=colors[name], width=4, joint="curve")


def _draw_ticks(pen: "ImageDraw.ImageDraw", view: MapView, known: CaptureGeometry, colors: dict[str, Any]) -> None:
    """A small open wedge per camera, as wide as its field of view; a dot with a stroke for one that looks down."""
    cameras, gaze = known.cameras, look_at_points(known).double().numpy()
    half = (cameras.width / 2 / cameras.intrinsics[:, 0]).atan().tolist()
    for i in _marked(view, known):
        color = colors[known.tracks[i][0]]
        x, y = view.pixels(known.centers[i, :2].double().numpy()).tolist()
        ahead = known.forwards[i].double().numpy()
        if math.hypot(ahead[0], ahead[1]) < 0.5:
            _draw_dot(pen, (x, y), tuple(view.pixels(gaze[i]).tolist()), color)
            continue
        heading = math.atan2(-ahead[1], ahead[0])
        sides = [(x + 28 * math.cos(heading + turn), y + 28 * math.sin(heading + turn)) for turn in (-half[i], half[i])]
        pen.line([sides[0], (x, y), sides[1]], fill=color, width=2, joint="curve")


def _marked(view: MapView, known: CaptureGeometry) -> list[int]:
    """Frames far enough apart in the picture to be marked one by one."""
    chosen: list[int] = []
    where = view.pixels(known.centers[:, :2].double().numpy())
    for track in known.sorted_tracks():
        last = None
        for i in track:
            if last is None or math.dist(where[i], where[last]) >= TICK_SPACING:
                chosen.append(i)
                last = i
    return chosen


def _draw_dot(
    pen: "ImageDraw.ImageDraw", at: tuple[float, float], gaze: tuple[float, ...], color: tuple[int, int, int]
) -> None:
    pen.line([at, (gaze[0], gaze[1])], fill=color, width=2)
    pen.ellipse((at[0] - 6, at[1] - 6, at[0] + 6, at[1] + 6), fill=color)


def _draw_names(
    pen: "ImageDraw.ImageDraw", view: MapView, blocks: Sequence[Block], members: Sequence[FrameAssignment]
) -> None:
    written: list[tuple[float, float]] = []
    for i, (block, member) in enumerate(zip(blocks, members, strict=True)):
        color = BLOCK_COLORS[i % len(BLOCK_COLORS)]
        x, y = view.pixels(np.array(block.origin[:2])).tolist()
        dot = min(9.0, max(3.0, 0.2 * block.radius * view.scale))
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=color, outline=PAPER, width=2)
        if any(math.dist((x, y), other) < NAME_SPACING for other in written):
            continue
        written.append((x, y))
        _write(pen, (x, y - 16), block.name, 21, color, anchor="ms")
        _write(pen, (x, y + 16), f"{len(member.frames)} frames", 14, INK, anchor="mt")


def _caption(capture: Capture, blocks: Sequence[Block], known: CaptureGeometry) -> str:
    radii = sorted({round(block.radius, 2) for block in blocks})
    unit = " m" if capture.is_metric else ""
    size = f"{radii[0]:.3g}{unit}" if len(radii) == 1 else f"{radii[0]:.3g} to {radii[-1]:.3g}{unit}"
    count = f"{len(blocks)} blocks" if len(blocks) != 1 else "1 block"
    return f"{count}, radius {size}; {len(known)} frames"


def _draw_legend(
    pen: "ImageDraw.ImageDraw", view: MapView, capture: Capture, colors: dict[str, Any], caption: str, streets: bool
) -> None:
    """Scale bar on the left, caption beside it, segments on the right."""
    top = (SIZE[1] - LEGEND_HEIGHT) * OVERSAMPLING
    pen.rectangle((0, top, SIZE[0] * OVERSAMPLING, SIZE[1] * OVERSAMPLING), fill=(247, 248, 250))
    length = scale_bar_length(200 * OVERSAMPLING / view.scale)
    end = 60 + length * view.scale
    pen.line([(60, top + 66), (60, top + 82), (end, top + 82), (end, top + 66)], fill=INK, width=4)
    _write(pen, (60, top + 56), f"{length:g} {'m' if capture.is_metric else 'units'}", 15, INK, anchor="ls")
    _write(pen, (end + 70, top + 56), caption, 19, INK, anchor="ls")
    _write(pen, (end + 70, top + 104), _legend(capture, streets), 14, FAINT, anchor="ls")
    for i, (name, color) in enumerate(list(colors.items())[:MAX_SEGMENTS]):
        x, y = SIZE[0] * OVERSAMPLING * (0.62 + 0.19 * (i // 3)), top + 34 + 42 * (i % 3)
        pen.line([(x, y), (x + 44, y)], fill=color, width=6)
        _write(pen, (x + 60, y), _short(f"segment {name}"), 14, INK, anchor="lm")
    if len(colors) > MAX_SEGMENTS:
        x, y = SIZE[0] * OVERSAMPLING * 0.81, top + 34 + 42 * 2
        _write(pen, (x + 60, y), f"and {len(colors) - MAX_SEGMENTS} more segments", 14, FAINT, anchor="lm")


def _legend(capture: Capture, streets: bool) -> str:
    origins = "disc: block, dot: its origin, number: frames that train it"
    dots = "; faint dots: points" if capture.sparse_points or capture.lidar_points else ""
    return f"{origins}{dots}{'; gray: streets' if streets else ''}"


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:16]}...{name[-11:]}"


def _draw_north(pen: "ImageDraw.ImageDraw", name: str) -> None:
    x, y = (SIZE[0] - 46) * OVERSAMPLING, 92
    pen.polygon([(x, y - 44), (x - 22, y + 30), (x, y + 14), (x + 22, y + 30)], fill=INK)
    _write(pen, (x, y + 40), name, 17, INK, anchor="mt")


def _write(
    pen: "ImageDraw.ImageDraw", at: tuple[float, float], text: str, size: int, color: tuple[int, int, int], anchor: str
) -> None:
    """Text with a pale outline, legible over points and paths."""
    from PIL import ImageFont

    font = ImageFont.load_default(size * OVERSAMPLING)
    pen.text(at, text, font=font, fill=color, anchor=anchor, stroke_width=3, stroke_fill=PAPER)
