"""Pictures side by side: what a photograph shows, and what several trainings make of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from blocknerf.city.renderer import CityRenderer
from blocknerf.images import to_uint8, write_image
from pipelines.evaluate import EvalImage, render_eval_image

GAP = 2
"""White pixels between pictures."""


HasAppearanceCodes = tuple[CityRenderer, Sequence[EvalImage]]
"""A training, and the same photographs kept back as it is asked for them."""


def write_comparison(trained: Sequence[HasAppearanceCodes], path: Path) -> None:
    """A row a photograph: itself, then each training's picture of it in the order given, by the half-image protocol."""
    columns = [[to_uint8(exam.photo) for exam in trained[0][1]]]
    for renderer, exams in trained:
        columns.append([to_uint8(render_eval_image(renderer, exam).color) for exam in exams])
    write_image(path, stacked([beside(row) for row in zip(*columns, strict=True)]))


def busiest(exams: Sequence[EvalImage], count: int) -> list[EvalImage]:
    """The photographs of some in which masks cover the most, most first."""

    def uncovered(exam: EvalImage) -> float:
        return 1.0 if exam.usable is None else float(exam.usable.float().mean())

    return sorted(exams, key=uncovered)[:count]


def beside(pictures: Sequence[UInt8[np.ndarray, "height width 3"]]) -> UInt8[np.ndarray, "height total 3"]:
    """Pictures of one height from left to right."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], 1)


def stacked(rows: Sequence[UInt8[np.ndarray, "height width 3"]]) -> UInt8[np.ndarray, "total width 3"]:
    """Pictures of one width from top to bottom."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    parts = [part for row in rows for part in (gap, row)]
    return np.concatenate(parts[1:], 0)
