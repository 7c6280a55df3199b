"""Charts of the report as inline SVG, drawn with matplotlib."""

import io
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, STRIP_HEIGHT = 5.2, 2.6, 0.28
"""Size of a chart and height of a strip, in inches; the page scales them."""
MAX_POINTS = 160
"""Maximum number of points of a line. More are averaged, since they would be indistinguishable."""
SMOOTHING = 0.1
"""Width of the moving average, as a fraction of the points of a line."""
FORMAT_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
"""Without these, the SVG has no metadata, and the same chart is the same text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    color: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, log: bool = False) -> str:
    """Return lines over common axes as an `<svg>`; an empty string without points.

    Each line is smoothed, over the faint values themselves. Names are not drawn: see the legend of the page.

    Args:
        series: The lines.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        log: Whether the vertical axis is logarithmic; values that are not positive are left out.
    """
    lines = [line for line in (downsample(one, positive=log) for one in series) if line.x]
    if not lines:
        return ""
    with _figure(HEIGHT) as figure:
        axes = figure.add_axes((0.11, 0.16, 0.87, 0.81))
        for line in lines:
            axes.plot(line.x, line.y, color=line.color, alpha=0.35, linewidth=0.8, clip_on=False)
            mark = "o" if len(line.x) == 1 else ""
            axes.plot(line.x, smooth(line.y), mark, color=line.color, linewidth=1.6, clip_on=False, gid="smoothed")
        axes.set_xlim(0.0, max(max(line.x) for line in lines) or 1.0)
        _style(axes, x_label, y_label, log=log)
        return _svg(figure)


def stacked_strip(rows: Sequence[Mapping[str, float]], colors: Mapping[str, str]) -> str:
    """Return the weights of names along a video, stacked, as an `<svg>`; an empty string for less than two rows.

    The first name is at the bottom.
    """
    if len(rows) < 2:
        return ""
    names = [name for name in colors if any(row.get(name, 0.0) > 0.0 for row in rows)]
    with _figure(STRIP_HEIGHT) as figure:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        weights = [[row.get(name, 0.0) for row in rows] for name in names]
        for area in axes.stackplot(
            range(len(rows)), weights, colors=[colors[name] for name in names], linewidth=0, clip_on=False
        ):
            area.set_gid("weight")
        axes.set(xlim=(0, len(rows) - 1), ylim=(0.0, 1.0))
        axes.set_axis_off()
        return _svg(figure).replace("<svg ", '<svg preserveAspectRatio="none" ', 1)


def downsample(line: Series, *, positive: bool = False) -> Series:
    """Return the line without its non-finite points, averaged in groups if more than `MAX_POINTS` are left.

    With `positive`, points with a value that is not positive are left out, too.
    """
    low = 0.0 if positive else -math.inf
    pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y) and y > low]
    groups = np.array_split(np.array(pairs).reshape(-1, 2), min(len(pairs), MAX_POINTS)) if pairs else []
    means = [group.mean(0).tolist() for group in groups]
    return Series(name=line.name, color=line.color, x=[x for x, _ in means], y=[y for _, y in means])


def smooth(values: Sequence[float]) -> Float[np.ndarray, "points"]:
    """Return the moving average over `SMOOTHING` of all values; shorter at both ends.

    >>> smooth([1.0, 3.0]).tolist(), smooth([2.0] * 40).tolist() == [2.0] * 40
    ([1.0, 3.0], True)
    """
    window = np.ones(2 * round(SMOOTHING * len(values) / 2) + 1)
    return np.convolve(values, window, "same")[: len(values)] / np.convolve(np.ones(len(values)), window, "same")


@contextmanager
def _figure(height: float) -> Iterator["Figure"]:
    """Return a figure that is drawn the same way whatever the user's settings of matplotlib are."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports that it makes a cache of fonts
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "blocknerf", "text.parse_math": False})
        yield Figure(figsize=(WIDTH, height))


def _style(axes: "Axes", x_label: str, y_label: str, *, log: bool) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log" if log else "linear")
    if log:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=16))
        axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(which="both", length=0, labelsize=8)
    axes.grid(axis="y", linewidth=0.6, clip_on=False)
    axes.spines[:].set_visible(False)


def _svg(figure: "Figure") -> str:
    """Return a figure as an `<svg>` element for a page in HTML, where it needs no declarations."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=FORMAT_METADATA)
    content = buffer.getvalue()
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", content[content.index("<svg") :]).strip()
