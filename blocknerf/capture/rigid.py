"""Rigid transform about a pivot, stored as rotation vector and translation."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64
from scipy.spatial.transform import Rotation
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.geometry import compose

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotTransform:
    """Rotation about a pivot, followed by a translation.

    With the pivot at the center of the moved cameras, rotation and translation can be read separately; about a
    distant pivot, a small rotation would appear as a large translation.
    """

    pivot: Triple
    rotation: Triple = (0.0, 0.0, 0.0)
    """Rotation vector (radians)."""
    translation: Triple = (0.0, 0.0, 0.0)
    """Displacement of the pivot, in world units."""

    @classmethod
    def of_matrix(cls, matrix: Float64[Tensor, "3 4"], pivot: Float64[Tensor, "3"]) -> "PivotTransform":
        """Return the transform of a matrix, expressed about a pivot."""
        rotation = Rotation.from_matrix(matrix[:, :3].numpy()).as_rotvec()
        translation = matrix[:, :3] @ pivot + matrix[:, 3] - pivot
        return cls(
            pivot=_triple(pivot.tolist()),
            rotation=_triple(rotation.tolist()),
            translation=_triple(translation.tolist()),
        )

    @property
    def matrix(self) -> Float64[Tensor, "3 4"]:
        """The 3x4 matrix [R | t] of the transform.

        >>> PivotTransform(pivot=(1.0, 0.0, 0.0), rotation=(0.0, 0.0, 3.141592653589793)).matrix[0, 3]
        tensor(2., dtype=torch.float64)
        """
        rotation = torch.from_numpy(Rotation.from_rotvec(self.rotation).as_matrix())
        pivot, translation = (rotation.new_tensor(part) for part in (self.pivot, self.translation))
        column = pivot + translation - rotation @ pivot
        return torch.cat([rotation, column[:, None]], -1)

    @property
    def rotation_deg(self) -> float:
        """Rotation angle (degrees)."""
        return float(np.degrees(np.linalg.norm(self.rotation)))

    @property
    def translation_norm(self) -> float:
        """Length of the translation, in world units."""
        return float(np.linalg.norm(self.translation))

    def apply(self, cameras: Cameras) -> Cameras:
        """Return the cameras with the transform applied to their poses."""
        poses = cameras.camera_to_world
        moved = compose(self.matrix.to(poses.device).expand(len(poses), 3, 4), poses.double())
        return replace(cameras, camera_to_world=moved.to(poses.dtype))


def _triple(values: list[float]) -> Triple:
    x, y, z = values
    return x, y, z
