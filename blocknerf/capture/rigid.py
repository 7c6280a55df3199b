"""A rigid motion of part of the world, in numbers that can be read."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy.spatial.transform import Rotation
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.json_reader import JsonReader
from blocknerf.geometry import compose

Triple = tuple[float, float, float]
_KEYS = ("pivot", "rotation", "translation")


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotTransform:
    """A turn about a pivot, then a shift.

    With the pivot amid what is moved, turn and shift can be read one by one; about a far one, a small turn would
    pass for a large shift.
    """

    pivot: Triple
    rotation: Triple = (0.0, 0.0, 0.0)
    """Rotation vector (radians)."""
    translation: Triple = (0.0, 0.0, 0.0)
    """By how much the pivot moves, in world units."""

    @classmethod
    def of_matrix(cls, matrix: Float64[Tensor, "3 4"], pivot: Float64[Tensor, "3"]) -> "PivotTransform":
        """The motion of a matrix, written about a pivot."""
        rotation = Rotation.from_matrix(matrix[:, :3].numpy()).as_rotvec()
        shift = matrix[:, :3] @ pivot + matrix[:, 3] - pivot
        return cls(
            pivot=_triple(pivot.tolist()), rotation=_triple(rotation.tolist()), translation=_triple(shift.tolist())
        )

    @property
    def matrix(self) -> Float64[Tensor, "3 4"]:
        """The turn, and beside it where the world's origin goes.

        >>> PivotTransform(pivot=(1.0, 0.0, 0.0), rotation=(0.0, 0.0, 3.141592653589793)).matrix[0, 3]
        tensor(2., dtype=torch.float64)
        """
        turn = torch.from_numpy(Rotation.from_rotvec(self.rotation).as_matrix())
        pivot, translation = (turn.new_tensor(part) for part in (self.pivot, self.translation))
        shift = pivot + translation - turn @ pivot
        return torch.cat([turn, shift[:, None]], -1)

    @property
    def rotation_deg(self) -> float:
        """The angle it turns by."""
        return float(np.degrees(np.linalg.norm(self.rotation)))

    @property
    def translation_norm(self) -> float:
        """How far it moves its pivot, in world units."""
        return float(np.linalg.norm(self.translation))

    def apply(self, cameras: Cameras) -> Cameras:
        """The cameras, moved."""
        poses = cameras.camera_to_world
        moved = compose(self.matrix.to(poses.device).expand(len(poses), 3, 4), poses.double())
        return replace(cameras, camera_to_world=moved.to(poses.dtype))


def transform_to_json(motion: PivotTransform) -> dict[str, Any]:
    """A motion as plain numbers."""
    return {key: list(getattr(motion, key)) for key in _KEYS}


def read_transform(entry: JsonReader) -> PivotTransform:
    """The motion of an object that has one.

    Raises:
        CaptureError: a part is missing or not three numbers.
    """
    return PivotTransform(**{key: entry.vec3(key) for key in _KEYS})


def _triple(values: list[float]) -> Triple:
    x, y, z = values
    return x, y, z
