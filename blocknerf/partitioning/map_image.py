"""Map image of a partition: blocks, frames, paths and points in top view."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import UInt8

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import without_outliers
from blocknerf.colormaps import block_color
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partitioning.frame_assignment import FrameAssignment
from blocknerf.partitioning.ground_coverage import look_at_points
from blocknerf.partitioning.route import split_tracks
from blocknerf.partitioning.street_network import Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SIZE = (1200, 900)
DPI = 100
LEGEND_HEIGHT = 76
"""Height of the strip below the map with the scale bar and the legend, in pixels."""
MARGIN = (45, 40)
"""Least distance between the map's content and its edges, in pixels."""
MARK_SPACING, WEDGE = 18.0, 14.0
"""Minimum distance between the marked cameras of one track, and length of a camera's wedge, in pixels."""
NAME_GAP = 6.0
"""Minimum distance between two names, in pixels; a name that would be nearer to another is left out."""
MAX_POINTS = 400_000
MAX_SEGMENTS = 5
STREET_WIDTH = 6.0
"""Width (world units) of all streets; the map data has centerlines only."""
INK, FAINT, PAPER, STRIP, STREET = "#22262e", "#787e88", "#ffffff", "#f7f8fa", "#cdd0d6"
SEGMENT_COLORS = ("#183c78", "#aa3c14", "#146432", "#6e2882", "#785a00", "#3c3c3c")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    """Center and scale of the map."""

    center: tuple[float, float]
    scale: float
    """Pixels per world unit."""

    def length(self, pixels: float) -> float:
        """Return a length on the image, in world units."""
        return pixels / self.scale


def draw_map(
    capture: Capture, blocks: Sequence[Block], assignments: Sequence[FrameAssignment], streets: Sequence[Line] = ()
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the map, 1200 x 900; north (or the world's y) is up. `streets` are centerlines in world coordinates."""
    geometry = capture_geometry(without_outliers(capture))
    view = _view(geometry, blocks)
    colors = {name: SEGMENT_COLORS[i % len(SEGMENT_COLORS)] for i, name in enumerate(capture.segments)}
    with _figure() as figure:
        axes = _map_axes(figure, view)
        _draw_streets(axes, view, streets)
        _draw_points(axes, capture)
        _draw_discs(axes, blocks)
        _draw_paths(axes, geometry, colors)
        _draw_cameras(axes, view, geometry, colors)
        _draw_names(axes, view, blocks, assignments)
        _draw_north(axes, "N" if capture.geo_origin else "y")
        _draw_strip(figure, view, capture, colors, _caption(capture, blocks, geometry), bool(streets))
        return _pixels(figure)


def scale_bar_length(max_length: float) -> float:
    """Return the largest of 1, 2, 5, 10, ... (times a power of ten) that is at most `max_length`.

    >>> scale_bar_length(37.0), scale_bar_length(0.6)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(max_length))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= max_length * (1 + 1e-9)))


@contextmanager
def _figure() -> Iterator["Figure"]:
    """Return a figure that is drawn the same way whatever the user's settings of matplotlib are."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports that it makes a cache of fonts
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # A name may have characters that the font lacks; they become boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False
        figure = Figure(figsize=(SIZE[0] / DPI, SIZE[1] / DPI), dpi=DPI, facecolor=PAPER)
        # Without a canvas, each measured text would get a renderer of its own.
        FigureCanvasAgg(figure)
        yield figure


def _pixels(figure: "Figure") -> UInt8[np.ndarray, "height width 3"]:
    canvas = cast("FigureCanvasAgg", figure.canvas)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _view(geometry: CaptureGeometry, blocks: Sequence[Block]) -> MapView:
    centers = geometry.centers[:, :2].double().numpy()
    origins = np.array([block.origin[:2] for block in blocks])
    radii = np.array([[block.radius] for block in blocks])
    corners = np.concatenate([centers, origins - radii, origins + radii])
    low, high = corners.min(0), corners.max(0)
    drawable_size = np.array([SIZE[0] - 2 * MARGIN[0], SIZE[1] - LEGEND_HEIGHT - 2 * MARGIN[1]])
    center = (low + high) / 2
    return MapView(
        center=(float(center[0]), float(center[1])), scale=float((drawable_size / np.maximum(high - low, 1e-9)).min())
    )


def _map_axes(figure: "Figure", view: MapView) -> "Axes":
    """Return axes in world units above the strip."""
    strip = LEGEND_HEIGHT / SIZE[1]
    axes = figure.add_axes((0.0, strip, 1.0, 1.0 - strip))
    (x, y), (half_width, half_height) = (
        view.center,
        (view.length(SIZE[0] / 2), view.length((SIZE[1] - LEGEND_HEIGHT) / 2)),
    )
    axes.set(xlim=(x - half_width, x + half_width), ylim=(y - half_height, y + half_height), autoscale_on=False)
    axes.set_axis_off()
    return axes


def _draw_streets(axes: "Axes", view: MapView, streets: Sequence[Line]) -> None:
    _draw_lines(axes, streets, STREET, width=max(2.0, STREET_WIDTH * view.scale), zorder=0.5)  # under the points


def _draw_points(axes: "Axes", capture: Capture) -> None:
    cloud = capture.read_sparse_points() or capture.read_lidar_points()
    if cloud is None or len(cloud.positions) == 0:
        return
    stride = slice(None, None, max(1, len(cloud.positions) // MAX_POINTS))
    positions = cloud.positions[stride].astype(np.float64)
    colors = np.full(positions.shape, 150.0) if cloud.colors is None else cloud.colors[stride].astype(np.float64)
    upward = positions[:, 2].argsort(kind="stable")
    # About half their own color, half white: points are the background of the rest.
    faded = (0.55 * colors + 0.45 * 250)[upward] / 255.0
    side = 1.0 if len(positions) > 60_000 else 2.0
    x, y = positions[upward, :2].T
    axes.scatter(x, y, s=_points(side) ** 2, c=faded, marker="s", linewidths=0, antialiased=False)


def _draw_discs(axes: "Axes", blocks: Sequence[Block]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    discs = [Circle(block.origin[:2], block.radius) for block in blocks]
    colors = np.array([_color(i) for i in range(len(blocks))])
    width = _points(2.0 if len(blocks) < 60 else 1.0)
    axes.add_collection(PatchCollection(discs, facecolors=np.insert(colors, 3, 0.12, 1), edgecolors="none"))
    axes.add_collection(PatchCollection(discs, facecolors="none", edgecolors=colors, linewidths=width))


def _draw_paths(axes: "Axes", geometry: CaptureGeometry, colors: Mapping[str, str]) -> None:
    for name, path in split_tracks(geometry):
        _draw_lines(axes, [path[:, :2].double().numpy()], colors[name], width=2.0)


def _draw_cameras(axes: "Axes", view: MapView, geometry: CaptureGeometry, colors: Mapping[str, str]) -> None:
    """Draw a small open wedge per camera, as wide as its field of view; a dot with a line for one that looks down."""
    cameras, targets = geometry.cameras, look_at_points(geometry).double().numpy()
    half_fovs = (cameras.width / 2 / cameras.intrinsics[:, 0]).atan().tolist()
    lines, line_colors = list[Line](), list[str]()
    for i in _frames_to_mark(view, geometry):
        color, center = colors[geometry.tracks[i][0]], geometry.centers[i, :2].double().numpy()
        forward = geometry.forwards[i].double().numpy()
        if math.hypot(forward[0], forward[1]) < 0.5:
            lines.append(np.stack([center, targets[i]]))
            axes.plot(*center, "o", color=color, markersize=_points(6.0))
        else:
            angles = math.atan2(forward[1], forward[0]) + np.array([-half_fovs[i], half_fovs[i]])
            ends = center + view.length(WEDGE) * np.stack([np.cos(angles), np.sin(angles)], -1)
            lines.append(np.stack([ends[0], center, ends[1]]))
        line_colors.append(color)
    _draw_lines(axes, lines, line_colors, width=1.0)


def _frames_to_mark(view: MapView, geometry: CaptureGeometry) -> list[int]:
    """Return frames far enough apart in the image to be marked one by one."""
    marked_frames: list[int] = []
    centers = geometry.centers[:, :2].double().numpy()
    for track in geometry.sorted_tracks():
        last = None
        for i in track:
            if last is None or math.dist(centers[i], centers[last]) >= view.length(MARK_SPACING):
                marked_frames.append(i)
                last = i
    return marked_frames


def _draw_names(axes: "Axes", view: MapView, blocks: Sequence[Block], assignments: Sequence[FrameAssignment]) -> None:
    """Draw a dot at each origin, and the block's name and frames inside the top of its disc, off the paths."""
    from matplotlib.transforms import Bbox

    taken: list[Bbox] = []
    for i, (block, assignment) in enumerate(zip(blocks, assignments, strict=True)):
        x, y, _ = block.origin
        dot = min(9.0, max(3.0, 0.2 * block.radius * view.scale))
        axes.plot(x, y, "o", color=_color(i), markersize=_points(dot), markeredgecolor=PAPER, markeredgewidth=0.7)
        top = y + block.radius - view.length(min(10.0, 0.2 * block.radius * view.scale))
        name = _draw_text(axes, (x, top), block.name, 15, _color(i), weight="bold", ha="center", va="top")
        count = _draw_text(
            axes, (x, top - view.length(22)), f"{len(assignment.frames)} frames", 11, INK, ha="center", va="top"
        )
        box = Bbox.union([name.get_window_extent(), count.get_window_extent()]).padded(NAME_GAP / 2)
        if any(box.overlaps(other) for other in taken):
            name.remove()
            count.remove()
        else:
            taken.append(box)


def _caption(capture: Capture, blocks: Sequence[Block], geometry: CaptureGeometry) -> str:
    radii = sorted({round(block.radius, 2) for block in blocks})
    unit = " m" if capture.is_metric else ""
    size = f"{radii[0]:.3g}{unit}" if len(radii) == 1 else f"{radii[0]:.3g} to {radii[-1]:.3g}{unit}"
    count = f"{len(blocks)} blocks" if len(blocks) != 1 else "1 block"
    return f"{count}, radius {size}; {len(geometry)} frames"


def _draw_strip(
    figure: "Figure", view: MapView, capture: Capture, colors: Mapping[str, str], caption: str, streets: bool
) -> None:
    """Draw the scale bar on the left, the caption next to it, and the segments on the right."""
    axes = figure.add_axes((0.0, 0.0, 1.0, LEGEND_HEIGHT / SIZE[1]), facecolor=STRIP)
    axes.set(xlim=(0, SIZE[0]), ylim=(LEGEND_HEIGHT, 0), xticks=(), yticks=())
    axes.spines[:].set_visible(False)
    length = scale_bar_length(view.length(200))
    end = 30 + length * view.scale
    _draw_lines(axes, [np.array([(30, 33), (30, 41), (end, 41), (end, 33)])], INK, width=2.0)
    unit = "m" if capture.is_metric else "units"
    _draw_text(axes, (30, 28), f"{length:g} {unit}", 12, INK)
    _draw_text(axes, (end + 35, 28), caption, 15, INK)
    _draw_text(axes, (end + 35, 52), _legend(capture, streets), 10.5, FAINT)
    for i, (name, color) in enumerate(list(colors.items())[:MAX_SEGMENTS]):
        x, y = SIZE[0] * (0.62 + 0.19 * (i // 3)), 17 + 21 * (i % 3)
        _draw_lines(axes, [np.array([(x, y), (x + 22, y)])], color, width=3.0)
        _draw_text(axes, (x + 30, y), _abbreviate(f"segment {name}"), 10.5, INK, va="center")
    if len(colors) > MAX_SEGMENTS:
        more = f"and {len(colors) - MAX_SEGMENTS} more segments"
        _draw_text(axes, (SIZE[0] * 0.81 + 30, 17 + 42), more, 10.5, FAINT, va="center")


def _legend(capture: Capture, streets: bool) -> str:
    origins = "disc: block, dot: its origin, number: frames that train it"
    dots = "; faint dots: points" if capture.sparse_points or capture.lidar_points else ""
    return f"{origins}{dots}{'; gray: streets' if streets else ''}"


def _abbreviate(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:16]}...{name[-11:]}"


def _draw_north(axes: "Axes", name: str) -> None:
    arrow = {"arrowstyle": "-|>,head_width=0.5,head_length=0.9", "color": INK, "linewidth": 2}
    axes.annotate(
        name, (0.962, 0.97), (0.962, 0.88), xycoords="axes fraction", ha="center", va="center", color=INK,
        fontsize=_points(17), arrowprops=arrow,
    )  # fmt: skip


def _draw_lines(
    axes: "Axes", lines: Sequence[Line], colors: str | Sequence[str], width: float, zorder: float = 2.0
) -> None:
    """Draw lines with a width in pixels, each in its color or all in one."""
    from matplotlib.collections import LineCollection

    widths = _points(width)
    axes.add_collection(
        LineCollection(lines, colors=colors, linewidths=widths, capstyle="butt", joinstyle="round", zorder=zorder)
    )


def _draw_text(axes: "Axes", at: tuple[float, float], text: str, pixels: float, color: Any, **options: Any) -> "Text":
    """Draw text with a pale outline, legible over points and paths."""
    from matplotlib.patheffects import withStroke

    outline = withStroke(linewidth=_points(3.0), foreground=PAPER)
    return axes.text(*at, text, fontsize=_points(pixels), color=color, path_effects=[outline], **options)


def _color(index: int) -> tuple[float, float, float]:
    """Return the color of a block, 0 to 1."""
    red, green, blue = block_color(index)
    return red / 255, green / 255, blue / 255


def _points(pixels: float) -> float:
    """Return a length in matplotlib's unit for fonts and lines, 1/72 inch."""
    return 72.0 * pixels / DPI
