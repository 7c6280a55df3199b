"""Similarities [s R | t] as three rows: changes of coordinates between a source, a model and the world of a run."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

Row = tuple[float, float, float, float]
Rows = tuple[Row, Row, Row]
"""A 3x4 matrix: a similarity, or a pose if its scale is one."""
IDENTITY: Rows = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))


def to_rows(matrix: Float64[np.ndarray, "3 4"] | Sequence[Sequence[float]]) -> Rows:
    """Return a 3x4 matrix as three rows of floats."""
    first, second, third = (tuple(float(number) for number in row) for row in matrix)
    return first, second, third  # type: ignore[return-value]


def chain(second: Rows, first: Rows) -> Rows:
    """Return the similarity that applies `first`, then `second`.

    >>> chain(((2.0, 0, 0, 0), (0, 2.0, 0, 0), (0, 0, 2.0, 0)), ((1, 0, 0, 3), (0, 1, 0, 0), (0, 0, 1, 0)))[0]
    (2.0, 0.0, 0.0, 6.0)
    """
    a, b = np.array(second), np.array(first)
    return to_rows(np.column_stack([a[:, :3] @ b[:, :3], a[:, :3] @ b[:, 3] + a[:, 3]]))


def invert(similarity: Rows) -> Rows:
    """Return the inverse of a similarity.

    Raises:
        numpy.linalg.LinAlgError: it is singular.
    """
    matrix = np.array(similarity)
    inverse = np.linalg.inv(matrix[:, :3])
    return to_rows(np.column_stack([inverse, -inverse @ matrix[:, 3]]))


def transform_pose(pose: Rows, similarity: Rows) -> Rows:
    """Return a camera-to-world pose in other coordinates: the rotation turns, the center moves and scales."""
    matrix = np.array(similarity)
    rotation = matrix[:, :3] / np.cbrt(np.linalg.det(matrix[:, :3]))
    source = np.array(pose)
    center = matrix[:, :3] @ source[:, 3] + matrix[:, 3]
    return to_rows(np.column_stack([rotation @ source[:, :3], center]))


def rotation_between(start: Float64[np.ndarray, "3"], end: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    """Return the smallest rotation that turns one unit vector into another (Rodrigues' formula)."""
    cosine = float(start @ end)
    if cosine < -1.0 + 1e-12:  # half a turn about any perpendicular axis
        axis = np.cross(start, np.eye(3)[np.argmin(np.abs(start))])
        axis /= np.linalg.norm(axis)
        return 2.0 * np.outer(axis, axis) - np.eye(3)
    cross = np.cross(start, end)
    skew = np.array([[0.0, -cross[2], cross[1]], [cross[2], 0.0, -cross[0]], [-cross[1], cross[0], 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + cosine)
