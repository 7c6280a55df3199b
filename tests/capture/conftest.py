"""A small capture on disk, with a `transforms.json`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.images import write_image

Edit = Callable[[dict[str, Any]], Any]


def pose(x: float) -> list[list[float]]:
    """A pose with OpenGL axes that looks along +y, slightly rotated, with z up."""
    c, s = float(np.cos(0.2)), float(np.sin(0.2))
    return [[c, 0.0, s, x], [s, 0.0, -c, 2.0], [0.0, 1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 1.0]]


def transforms() -> dict[str, Any]:
    """Three frames of 12x8 pixels with a mask, a sky mask and points; all other keys at their defaults."""
    frames = [{"file_path": f"./images/{i}.png", "transform_matrix": pose(float(i))} for i in range(3)]
    frames[1]["mask_path"] = "masks/1.png"
    frames[2]["sky_mask_path"] = "skies/2.png"
    return {
        "fl_x": 10.0,
        "fl_y": 11.0,
        "cx": 6.5,
        "cy": 4.0,
        "w": 12,
        "h": 8,
        "ply_file_path": "a.ply",
        "frames": frames,
    }


@pytest.fixture
def write_transforms(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that edits and writes the small capture and returns its folder."""

    def write(edit: Edit | None = None) -> Path:
        folder, rng = tmp_path / "capture", np.random.default_rng(1)
        for i in range(3):
            write_image(folder / "images" / f"{i}.png", rng.integers(0, 256, (8, 12, 3), dtype=np.uint8))
        mask = np.full((8, 12), 255, np.uint8)
        mask[:, :5] = 0
        write_image(folder / "masks" / "1.png", mask)
        sky = np.zeros((8, 12), np.uint8)
        sky[:3] = 1
        write_image(folder / "skies" / "2.png", sky)
        write_ply(PointCloud(positions=rng.normal(size=(5, 3)).astype(np.float32)), folder / "a.ply")
        data = transforms()
        if edit is not None:
            edit(data)
        (folder / "transforms.json").write_text(json.dumps(data))
        return folder

    return write
