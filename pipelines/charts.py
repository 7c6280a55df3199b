"""Charts as inline SVG, which need no script, no font and no library."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 38
MAX_POINTS = 160
"""Points of a line; more are averaged, since they could not be told apart."""

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart."""

    name: str
    color: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """From numbers to pixels along one side."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, self.low)), math.log10(low), math.log10(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def line_chart(series: Sequence[Series], *, label: str, x_label: str, y_label: str, log: bool = False) -> str:
    """Lines over common axes, as an `<svg>`; `label` is read out in its place. Without points it is empty.

    Args:
        series: The lines.
        label: What the chart shows, in words.
        x_label: Under the horizontal axis.
        y_label: Beside the vertical axis.
        log: Whether the vertical axis is logarithmic; values must be positive.
    """
    lines = [downsample(line) for line in series]
    xs, ys = [v for line in lines for v in line.x], [v for line in lines for v in line.y]
    if not xs:
        return ""
    across = _Axis(low=0.0, high=max(xs) or 1.0, start=LEFT, end=WIDTH - RIGHT)
    low, high = _log_span(ys) if log else _span(ys)
    up = _Axis(low=low, high=high, start=HEIGHT - BOTTOM, end=TOP, log=log)
    marks = _decades(low, high) if log else ticks(low, high)
    parts = [_row(up.place(mark), mark) for mark in marks if low <= mark <= high]
    parts += [_column(across.place(mark), mark) for mark in ticks(0.0, across.high) if mark <= across.high]
    parts += [_line(line, across, up) for line in lines]
    parts.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}">{escape(x_label)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="axis" transform="translate(12 {middle}) rotate(-90)">{escape(y_label)}</text>')
    return _svg(WIDTH, HEIGHT, label, parts)


def stacked_strip(rows: Sequence[Mapping[str, float]], colors: Mapping[str, str], *, label: str) -> str:
    """Shares of names along a film, stacked, as an `<svg>`."""
    count, height = len(rows), 28
    parts = []
    for name, color in colors.items():
        below = [sum(row.get(other, 0.0) for other in list(colors)[: list(colors).index(name)]) for row in rows]
        top = [low + row.get(name, 0.0) for low, row in zip(below, rows, strict=True)]
        if max(high - low for low, high in zip(below, top, strict=True)) <= 0.0:
            continue
        across = [(i + 0.5) * WIDTH / count for i in range(count)]
        across[0], across[-1] = 0.0, float(WIDTH)
        points = [*zip(across, top, strict=True), *reversed(list(zip(across, below, strict=True)))]
        outline = " ".join(f"{x:.1f},{(1 - y) * height:.2f}" for x, y in points)
        parts.append(f'<polygon points="{outline}" fill="{color}"><title>{escape(name)}</title></polygon>')
    return _svg(WIDTH, height, label, parts, stretch=True) if count > 1 else ""


def legend(colors: Mapping[str, str]) -> str:
    """Names with their colors, as HTML."""
    items = (f'<li><i style="background:{color}"></i>{escape(name)}</li>' for name, color in colors.items())
    return f'<ul class="legend">{"".join(items)}</ul>'


def downsample(line: Series) -> Series:
    """The line with its points averaged in groups, where it has too many, and those that are not finite left out."""
    pairs = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    groups = np.array_split(np.array(pairs).reshape(-1, 2), min(len(pairs), MAX_POINTS)) if pairs else []
    means = [group.mean(0).tolist() for group in groups]
    return Series(name=line.name, color=line.color, x=[x for x, _ in means], y=[y for _, y in means])


def ticks(low: float, high: float) -> list[float]:
    """Round numbers that divide a span into about five.

    >>> ticks(0.0, 1000.0)
    [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
    """
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in STEPS if size * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _log_span(values: Sequence[float]) -> tuple[float, float]:
    positive = [value for value in values if value > 0.0] or [1.0]
    return min(positive) / 1.15, max(positive) * 1.15


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten; the powers alone where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0, 2.0, 5.0) if len(powers) <= 4 else (1.0,)
    return [factor * 10.0**power for power in powers for factor in factors]


def _row(y: float, mark: float) -> str:
    text = f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{mark:g}</text>'
    return f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>{text}'


def _column(x: float, mark: float) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{mark:g}</text>'


def _line(line: Series, across: _Axis, up: _Axis) -> str:
    points = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
    return f'<polyline points="{points}" stroke="{line.color}"><title>{escape(line.name)}</title></polyline>'


def _svg(width: int, height: int, label: str, parts: Sequence[str], stretch: bool = False) -> str:
    fit = ' preserveAspectRatio="none"' if stretch else ""
    head = f'<svg viewBox="0 0 {width} {height}"{fit} role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"
