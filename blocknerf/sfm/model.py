"""A reconstruction of COLMAP as arrays, and its file."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from blocknerf.files import atomic_path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """The largest model of one attempt: images with poses, their lenses and the points they share."""

    names: tuple[str, ...]
    camera_to_world: Float64[np.ndarray, "images 3 4"]
    """OpenCV axes, in the model's own frame and unit."""
    cameras: Int64[np.ndarray, "images"]
    """Index of each image's camera in the job."""
    lens_parameters: Float64[np.ndarray, "cameras parameters"]
    """COLMAP's parameters of each camera of the job, filled up with zeros; all zeros if no image has it."""
    points: Float64[np.ndarray, "points 3"]
    colors: UInt8[np.ndarray, "points 3"]
    error: float
    """Mean reprojection error in pixels."""
    sizes: tuple[int, ...]
    """Images of this model and further ones of the other models of the attempt: places that share no image."""

    @property
    def centers(self) -> Float64[np.ndarray, "images 3"]:
        """Camera centers."""
        return self.camera_to_world[:, :, 3]


def write_model(model: Model | None, path: Path) -> None:
    """Write a model, or that an attempt has given none."""
    arrays: dict[str, Any] = (
        {} if model is None else {field.name: np.asarray(getattr(model, field.name)) for field in fields(model)}
    )
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)


def read_model(path: Path) -> Model | None:
    """Return the model of an attempt; None if it has given none."""
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    if not values:
        return None
    for name in ("names", "sizes"):
        values[name] = tuple(values[name].tolist())
    return Model(**values | {"error": float(values["error"])})
