"""Change of coordinates from a source (as its files store points and poses) to the world of a capture."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from blocknerf.capture.frame import Pose
from blocknerf.capture.points import PointCloud

SourceToWorld = Pose
"""Similarity as three rows [s R | t]: world = s R source + t."""
IDENTITY: SourceToWorld = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))


def transform_points(cloud: PointCloud, transform: SourceToWorld) -> PointCloud:
    """Return a point cloud in the world, computed in double precision."""
    if transform == IDENTITY:
        return cloud
    matrix = np.array(transform)
    positions = cloud.positions.astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
    return replace(cloud, positions=positions.astype(np.float32))


def transform_pose(pose: Pose, transform: SourceToWorld) -> Pose:
    """Return a camera-to-world pose in the world: the rotation turns, the center moves and scales."""
    matrix = np.array(transform)
    rotation = matrix[:, :3] / np.cbrt(np.linalg.det(matrix[:, :3]))
    source = np.array(pose)
    center = matrix[:, :3] @ source[:, 3] + matrix[:, 3]
    return to_pose(np.column_stack([rotation @ source[:, :3], center]))


def chain(second: SourceToWorld, first: SourceToWorld) -> SourceToWorld:
    """Return the similarity that applies `first`, then `second`."""
    a, b = np.array(second), np.array(first)
    return to_pose(np.column_stack([a[:, :3] @ b[:, :3], a[:, :3] @ b[:, 3] + a[:, 3]]))


def to_pose(matrix: Float64[np.ndarray, "3 4"] | Sequence[Sequence[float]]) -> Pose:
    """Return a 3x4 matrix as three rows of floats."""
    first, second, third = (tuple(float(number) for number in row) for row in matrix)
    return first, second, third  # type: ignore[return-value]
