"""Charts as inline SVG, without scripts, fonts or libraries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 38
MAX_POINTS = 160
"""Maximum number of points of a line. More are averaged, since they would be indistinguishable."""

TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    color: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Mapping from values to pixels along one side."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def to_pixels(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, self.low)), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def line_chart(series: Sequence[Series], *, label: str, x_label: str, y_label: str, log: bool = False) -> str:
    """Return lines over common axes as an `<svg>`; an empty string without points.

    Args:
        series: The lines.
        label: Description of the chart for screen readers.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        log: Whether the vertical axis is logarithmic; values must be positive.
    """
    lines = [downsample(line) for line in series]
    xs, ys = [v for line in lines for v in line.x], [v for line in lines for v in line.y]
    if not xs:
        return ""
    x_axis = _Axis(low=0.0, high=max(xs) or 1.0, start=LEFT, end=WIDTH - RIGHT)
    low, high = _log_range(ys) if log else _padded_range(ys)
    y_axis = _Axis(low=low, high=high, start=HEIGHT - BOTTOM, end=TOP, log=log)
    marks = _decades(low, high) if log else ticks(low, high)
    parts = [_y_tick(y_axis.to_pixels(mark), mark) for mark in marks if low <= mark <= high]
    parts += [_x_tick(x_axis.to_pixels(mark), mark) for mark in ticks(0.0, x_axis.high) if mark <= x_axis.high]
    parts += [_line(line, x_axis, y_axis) for line in lines]
    parts.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}">{escape(x_label)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="axis" transform="translate(12 {middle}) rotate(-90)">{escape(y_label)}</text>')
    return _svg(WIDTH, HEIGHT, label, parts)


def stacked_strip(rows: Sequence[Mapping[str, float]], colors: Mapping[str, str], *, label: str) -> str:
    """Return the weights of names along a video, stacked, as an `<svg>`."""
    count, height = len(rows), 28
    parts = []
    for name, color in colors.items():
        below = [sum(row.get(other, 0.0) for other in list(colors)[: list(colors).index(name)]) for row in rows]
        top = [low + row.get(name, 0.0) for low, row in zip(below, rows, strict=True)]
        if max(high - low for low, high in zip(below, top, strict=True)) <= 0.0:
            continue
        xs = [(i + 0.5) * WIDTH / count for i in range(count)]
        xs[0], xs[-1] = 0.0, float(WIDTH)
        points = [*zip(xs, top, strict=True), *reversed(list(zip(xs, below, strict=True)))]
        outline = " ".join(f"{x:.1f},{(1 - y) * height:.2f}" for x, y in points)
        parts.append(f'<polygon points="{outline}" fill="{color}"><title>{escape(name)}</title></polygon>')
    return _svg(WIDTH, height, label, parts, fill=True) if count > 1 else ""


def legend(colors: Mapping[str, str]) -> str:
    """Return names with their colors as an HTML list."""
    items = (f'<li><i style="background:{color}"></i>{escape(name)}</li>' for name, color in colors.items())
    return f'<ul class="legend">{"".join(items)}</ul>'


def downsample(line: Series) -> Series:
    """Return the line without its non-finite points, averaged in groups if more than `MAX_POINTS` are left."""
    pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    groups = np.array_split(np.array(pairs).reshape(-1, 2), min(len(pairs), MAX_POINTS)) if pairs else []
    means = [group.mean(0).tolist() for group in groups]
    return Series(name=line.name, color=line.color, x=[x for x, _ in means], y=[y for _, y in means])


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers that divide a range into about five parts.

    >>> ticks(0.0, 1000.0)
    [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
    """
    target = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(target))
    step = next(size * factor for factor in TICK_STEPS if size * factor >= target * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _padded_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    positive = [value for value in values if value > 0.0] or [1.0]
    return min(positive) / 1.15, max(positive) * 1.15


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times each power of ten, or only the powers if there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0, 2.0, 5.0) if len(powers) <= 4 else (1.0,)
    return [factor * 10.0**power for power in powers for factor in factors]


def _y_tick(y: float, mark: float) -> str:
    text = f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{mark:g}</text>'
    return f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>{text}'


def _x_tick(x: float, mark: float) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{mark:g}</text>'


def _line(line: Series, x_axis: _Axis, y_axis: _Axis) -> str:
    points = " ".join(
        f"{x_axis.to_pixels(x):.1f},{y_axis.to_pixels(y):.1f}" for x, y in zip(line.x, line.y, strict=True)
    )
    return f'<polyline points="{points}" stroke="{line.color}"><title>{escape(line.name)}</title></polyline>'


def _svg(width: int, height: int, label: str, parts: Sequence[str], fill: bool = False) -> str:
    fit = ' preserveAspectRatio="none"' if fill else ""
    head = f'<svg viewBox="0 0 {width} {height}"{fit} role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"
