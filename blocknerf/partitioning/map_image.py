"""Map image of a partition: blocks, frames, paths and points in top view."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import without_outliers
from blocknerf.colormaps import BLOCK_COLORS
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partitioning.frame_assignment import FrameAssignment
from blocknerf.partitioning.ground_coverage import look_at_points
from blocknerf.partitioning.route import split_tracks
from blocknerf.partitioning.street_network import Line

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SIZE = (1200, 900)
LEGEND_HEIGHT = 76
"""Height of the strip below the map with the scale bar and the legend."""
OVERSAMPLING = 2
"""Supersampling factor; Pillow does not antialias lines."""
TICK_SPACING = 36.0
"""Minimum distance (supersampled pixels) between the marked cameras of one track."""
NAME_SPACING = 150.0
"""Minimum distance (supersampled pixels) between labeled origins."""
MAX_POINTS = 400_000
MAX_SEGMENTS = 5
STREET_WIDTH = 6.0
"""Width (world units) of all streets; the map data has centerlines only."""
INK, FAINT, PAPER = (34, 38, 46), (120, 126, 136), (255, 255, 255)
STREET = (205, 208, 214)
SEGMENT_COLORS = ((24, 60, 120), (170, 60, 20), (20, 100, 50), (110, 40, 130), (120, 90, 0), (60, 60, 60))


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    """Center and scale of the map."""

    center: tuple[float, float]
    scale: float
    """Supersampled pixels per world unit."""

    def pixels(self, xy: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Return positions in supersampled pixels; y points down."""
        center = np.array([SIZE[0], SIZE[1] - LEGEND_HEIGHT]) * OVERSAMPLING / 2
        return (xy - np.array(self.center)) * np.array([self.scale, -self.scale]) + center


def draw_map(
    capture: Capture, blocks: Sequence[Block], assignments: Sequence[FrameAssignment], streets: Sequence[Line] = ()
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the map, 1200 x 900; north (or the world's y) is up. `streets` are centerlines in world coordinates."""
    from PIL import Image, ImageDraw

    geometry = capture_geometry(without_outliers(capture))
    view = _view(geometry, blocks)
    canvas = Image.new("RGB", (SIZE[0] * OVERSAMPLING, SIZE[1] * OVERSAMPLING), PAPER)
    _draw_streets(ImageDraw.Draw(canvas), view, streets)
    _draw_points(canvas, view, capture)
    canvas = _draw_discs(canvas, view, blocks)
    draw = ImageDraw.Draw(canvas)
    colors = _segment_colors(capture)
    _draw_paths(draw, view, geometry, colors)
    _draw_ticks(draw, view, geometry, colors)
    _draw_names(draw, view, blocks, assignments)
    _draw_legend(draw, view, capture, colors, _caption(capture, blocks, geometry), bool(streets))
    _draw_north(draw, "N" if capture.geo_origin else "y")
    return np.asarray(canvas.resize(SIZE, Image.Resampling.BOX))


def scale_bar_length(max_length: float) -> float:
    """Return the largest of 1, 2, 5, 10, ... (times a power of ten) that is at most `max_length`.

    >>> scale_bar_length(37.0), scale_bar_length(0.6)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(max_length))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= max_length * (1 + 1e-9)))


def _view(geometry: CaptureGeometry, blocks: Sequence[Block]) -> MapView:
    centers = geometry.centers[:, :2].double().numpy()
    origins = np.array([block.origin[:2] for block in blocks])
    radii = np.array([[block.radius] for block in blocks])
    corners = np.concatenate([centers, origins - radii, origins + radii])
    low, high = corners.min(0), corners.max(0)
    drawable_size = np.array([SIZE[0] - 90, SIZE[1] - LEGEND_HEIGHT - 60]) * OVERSAMPLING
    center = (low + high) / 2
    return MapView(
        center=(float(center[0]), float(center[1])), scale=float((drawable_size / np.maximum(high - low, 1e-9)).min())
    )


def _draw_points(canvas: "Image.Image", view: MapView, capture: Capture) -> None:
    cloud = capture.read_sparse_points() or capture.read_lidar_points()
    if cloud is None or len(cloud.positions) == 0:
        return
    stride = slice(None, None, max(1, len(cloud.positions) // MAX_POINTS))
    positions = cloud.positions[stride].astype(np.float64)
    colors = np.full(positions.shape, 150.0) if cloud.colors is None else cloud.colors[stride].astype(np.float64)
    upward = positions[:, 2].argsort(kind="stable")
    # About half their own color, half white: points are the background of the rest.
    faded = (0.55 * colors + 0.45 * 250).astype(np.uint8)[upward]
    pixels = np.floor(view.pixels(positions[upward, :2])).astype(np.int64)
    rgb = np.array(canvas)
    size = 1 if len(positions) > 60_000 else 2
    for dx in range(-size, size):
        for dy in range(-size, size):
            x, y = pixels[:, 0] + dx, pixels[:, 1] + dy
            inside = (x >= 0) & (y >= 0) & (x < canvas.width) & (y < canvas.height)
            rgb[y[inside], x[inside]] = faded[inside]
    canvas.paste(_image(rgb))


def _draw_streets(draw: "ImageDraw.ImageDraw", view: MapView, streets: Sequence[Line]) -> None:
    width = max(4, round(STREET_WIDTH * view.scale))
    for street in streets:
        vertices = [tuple(vertex) for vertex in view.pixels(street).tolist()]
        draw.line(vertices, fill=STREET, width=width, joint="curve")


def _image(rgb: UInt8[np.ndarray, "height width 3"]) -> "Image.Image":
    from PIL import Image

    return Image.fromarray(rgb)


def _draw_discs(canvas: "Image.Image", view: MapView, blocks: Sequence[Block]) -> "Image.Image":
    from PIL import Image, ImageDraw

    canvas = canvas.convert("RGBA")
    for i, block in enumerate(blocks):
        x, y = view.pixels(np.array(block.origin[:2]))
        pixel_radius = block.radius * view.scale
        size = math.ceil(2 * pixel_radius) + 8
        disc = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        color = BLOCK_COLORS[i % len(BLOCK_COLORS)]
        draw, bounds = ImageDraw.Draw(disc), (4.0, 4.0, 4.0 + 2 * pixel_radius, 4.0 + 2 * pixel_radius)
        draw.ellipse(bounds, fill=(*color, 30), outline=(*color, 220), width=4 if len(blocks) < 60 else 2)
        # The view contains all discs, so every corner is on the canvas.
        canvas.alpha_composite(disc, (max(0, round(x - pixel_radius) - 4), max(0, round(y - pixel_radius) - 4)))
    return canvas.convert("RGB")


def _segment_colors(capture: Capture) -> dict[str, tuple[int, int, int]]:
    return {name: SEGMENT_COLORS[i % len(SEGMENT_COLORS)] for i, name in enumerate(capture.segments)}


def _draw_paths(draw: "ImageDraw.ImageDraw", view: MapView, geometry: CaptureGeometry, colors: dict[str, Any]) -> None:
    for name, path in split_tracks(geometry):
        line = view.pixels(path[:, :2].double().numpy())
        draw.line([tuple(vertex) for vertex in line.tolist()], fill=colors[name], width=4, joint="curve")


def _draw_ticks(draw: "ImageDraw.ImageDraw", view: MapView, geometry: CaptureGeometry, colors: dict[str, Any]) -> None:
    """Draw a small open wedge per camera, as wide as its field of view; a dot with a line for one that looks down."""
    cameras, targets = geometry.cameras, look_at_points(geometry).double().numpy()
    half_fovs = (cameras.width / 2 / cameras.intrinsics[:, 0]).atan().tolist()
    for i in _frames_to_mark(view, geometry):
        color = colors[geometry.tracks[i][0]]
        x, y = view.pixels(geometry.centers[i, :2].double().numpy()).tolist()
        forward = geometry.forwards[i].double().numpy()
        if math.hypot(forward[0], forward[1]) < 0.5:
            _draw_dot(draw, (x, y), tuple(view.pixels(targets[i]).tolist()), color)
            continue
        heading = math.atan2(-forward[1], forward[0])
        wedge = [
            (x + 28 * math.cos(heading + angle), y + 28 * math.sin(heading + angle))
            for angle in (-half_fovs[i], half_fovs[i])
        ]
        draw.line([wedge[0], (x, y), wedge[1]], fill=color, width=2, joint="curve")


def _frames_to_mark(view: MapView, geometry: CaptureGeometry) -> list[int]:
    """Return frames far enough apart in the image to be marked one by one."""
    marked_frames: list[int] = []
    pixels = view.pixels(geometry.centers[:, :2].double().numpy())
    for track in geometry.sorted_tracks():
        last = None
        for i in track:
            if last is None or math.dist(pixels[i], pixels[last]) >= TICK_SPACING:
                marked_frames.append(i)
                last = i
    return marked_frames


def _draw_dot(
    draw: "ImageDraw.ImageDraw", at: tuple[float, float], target: tuple[float, ...], color: tuple[int, int, int]
) -> None:
    draw.line([at, (target[0], target[1])], fill=color, width=2)
    draw.ellipse((at[0] - 6, at[1] - 6, at[0] + 6, at[1] + 6), fill=color)


def _draw_names(
    draw: "ImageDraw.ImageDraw", view: MapView, blocks: Sequence[Block], assignments: Sequence[FrameAssignment]
) -> None:
    label_positions: list[tuple[float, float]] = []
    for i, (block, assignment) in enumerate(zip(blocks, assignments, strict=True)):
        color = BLOCK_COLORS[i % len(BLOCK_COLORS)]
        x, y = view.pixels(np.array(block.origin[:2])).tolist()
        dot = min(9.0, max(3.0, 0.2 * block.radius * view.scale))
        draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=color, outline=PAPER, width=2)
        if any(math.dist((x, y), other) < NAME_SPACING for other in label_positions):
            continue
        label_positions.append((x, y))
        _draw_text(draw, (x, y - 16), block.name, 21, color, anchor="ms")
        _draw_text(draw, (x, y + 16), f"{len(assignment.frames)} frames", 14, INK, anchor="mt")


def _caption(capture: Capture, blocks: Sequence[Block], geometry: CaptureGeometry) -> str:
    radii = sorted({round(block.radius, 2) for block in blocks})
    unit = " m" if capture.is_metric else ""
    size = f"{radii[0]:.3g}{unit}" if len(radii) == 1 else f"{radii[0]:.3g} to {radii[-1]:.3g}{unit}"
    count = f"{len(blocks)} blocks" if len(blocks) != 1 else "1 block"
    return f"{count}, radius {size}; {len(geometry)} frames"


def _draw_legend(
    draw: "ImageDraw.ImageDraw", view: MapView, capture: Capture, colors: dict[str, Any], caption: str, streets: bool
) -> None:
    """Draw the scale bar on the left, the caption next to it, and the segments on the right."""
    top = (SIZE[1] - LEGEND_HEIGHT) * OVERSAMPLING
    draw.rectangle((0, top, SIZE[0] * OVERSAMPLING, SIZE[1] * OVERSAMPLING), fill=(247, 248, 250))
    length = scale_bar_length(200 * OVERSAMPLING / view.scale)
    end = 60 + length * view.scale
    draw.line([(60, top + 66), (60, top + 82), (end, top + 82), (end, top + 66)], fill=INK, width=4)
    _draw_text(draw, (60, top + 56), f"{length:g} {'m' if capture.is_metric else 'units'}", 15, INK, anchor="ls")
    _draw_text(draw, (end + 70, top + 56), caption, 19, INK, anchor="ls")
    _draw_text(draw, (end + 70, top + 104), _legend(capture, streets), 14, FAINT, anchor="ls")
    for i, (name, color) in enumerate(list(colors.items())[:MAX_SEGMENTS]):
        x, y = SIZE[0] * OVERSAMPLING * (0.62 + 0.19 * (i // 3)), top + 34 + 42 * (i % 3)
        draw.line([(x, y), (x + 44, y)], fill=color, width=6)
        _draw_text(draw, (x + 60, y), _abbreviate(f"segment {name}"), 14, INK, anchor="lm")
    if len(colors) > MAX_SEGMENTS:
        x, y = SIZE[0] * OVERSAMPLING * 0.81, top + 34 + 42 * 2
        _draw_text(draw, (x + 60, y), f"and {len(colors) - MAX_SEGMENTS} more segments", 14, FAINT, anchor="lm")


def _legend(capture: Capture, streets: bool) -> str:
    origins = "disc: block, dot: its origin, number: frames that train it"
    dots = "; faint dots: points" if capture.sparse_points or capture.lidar_points else ""
    return f"{origins}{dots}{'; gray: streets' if streets else ''}"


def _abbreviate(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:16]}...{name[-11:]}"


def _draw_north(draw: "ImageDraw.ImageDraw", name: str) -> None:
    x, y = (SIZE[0] - 46) * OVERSAMPLING, 92
    draw.polygon([(x, y - 44), (x - 22, y + 30), (x, y + 14), (x + 22, y + 30)], fill=INK)
    _draw_text(draw, (x, y + 40), name, 17, INK, anchor="mt")


def _draw_text(
    draw: "ImageDraw.ImageDraw", at: tuple[float, float], text: str, size: int, color: tuple[int, int, int], anchor: str
) -> None:
    """Draw text with a pale outline, legible over points and paths."""
    from PIL import ImageFont

    font = ImageFont.load_default(size * OVERSAMPLING)
    draw.text(at, text, font=font, fill=color, anchor=anchor, stroke_width=3, stroke_fill=PAPER)
