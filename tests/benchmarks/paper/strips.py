"""Figures of held-out images and their renderings by several trainings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from blocknerf.city.renderer import CityRenderer
from blocknerf.images import to_uint8, write_image
from pipelines.evaluate import EvalImage, render_eval_image

GAP = 2
"""White pixels between images."""

TrainedRun = tuple[CityRenderer, Sequence[EvalImage]]
"""Renderer of a trained run, and its held-out images."""


def write_comparison(trained: Sequence[TrainedRun], path: Path) -> None:
    """Write a figure with a row per image: the image, then the rendering of each run by the half-image protocol."""
    columns = [[to_uint8(image.photo) for image in trained[0][1]]]
    for renderer, images in trained:
        columns.append([to_uint8(render_eval_image(renderer, image).color) for image in images])
    write_image(path, stack_vertically([stack_horizontally(row) for row in zip(*columns, strict=True)]))


def most_masked(images: Sequence[EvalImage], count: int) -> list[EvalImage]:
    """Return the images with the largest masked fraction, in descending order."""

    def usable_fraction(image: EvalImage) -> float:
        return 1.0 if image.usable is None else float(image.usable.float().mean())

    return sorted(images, key=usable_fraction)[:count]


def stack_horizontally(images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> UInt8[np.ndarray, "height total 3"]:
    """Return images of equal height in a row, with gaps."""
    gap = np.full((images[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)]
    return np.concatenate(parts[1:], 1)


def stack_vertically(rows: Sequence[UInt8[np.ndarray, "height width 3"]]) -> UInt8[np.ndarray, "total width 3"]:
    """Return images of equal width in a column, with gaps."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    parts = [part for row in rows for part in (gap, row)]
    return np.concatenate(parts[1:], 0)
