"""The direction that is up in a reconstruction, from its cameras and points."""

import numpy as np
from jaxtyping import Float64

from blocknerf.similarity import Rows, rotation_between, to_rows

UPRIGHT = 0.7
"""Length of the mean of the cameras' up vectors below which they do not agree: cameras that look down, for example."""
ALONG = 0.8
"""Share of the cameras' path along their up vectors from which they look down: nobody walks straight up."""
ROLL, PITCH = 2.0, 10.0
"""Standard deviations in degrees with which cameras are held level, and with which they look at the horizon.

Only cameras of several headings tell roll from pitch: at one heading, their sideways axes alone say little about up.
"""
MAX_TILT = np.radians(20.0)
"""Largest angle between the up vector of the cameras and the normal of the ground."""
TRIALS = 500
MIN_GROUND = 0.3
"""Share of the points below the cameras that must lie in a plane for it to be the ground."""
THICKNESS = 0.02
"""Distance from the plane within which points lie in it, relative to the median distance of points from cameras."""


def up_of_cameras(
    camera_to_world: Float64[np.ndarray, "images 3 4"], viewer_up: Float64[np.ndarray, "images 3"]
) -> Float64[np.ndarray, "3"]:
    """Return the unit vector that is up according to the cameras, in the frame of their poses.

    Args:
        camera_to_world: Poses with OpenCV axes.
        viewer_up: What is up for a viewer of each image, in camera axes; (0, -1, 0) unless EXIF says otherwise.
    """
    rotations = camera_to_world[:, :, :3]
    ups = np.einsum("nij,nj->ni", rotations, viewer_up)
    forward = rotations[:, :, 2].mean(axis=0)
    mean = ups.mean(axis=0)
    length = float(np.linalg.norm(mean))
    path = camera_to_world[:, :, 3] - camera_to_world[:, :, 3].mean(axis=0)
    climb = np.einsum("ni,i->n", path, mean / max(length, 1e-12))
    looks_down = length < UPRIGHT or (climb**2).sum() > ALONG * (path**2).sum() > 0.0
    if looks_down and np.linalg.norm(forward) > UPRIGHT:
        return _unit(-forward)
    return _levelled(_unit(mean), np.cross(rotations[:, :, 2], ups), rotations[:, :, 2])


def ground_plane(
    points: Float64[np.ndarray, "points 3"], centers: Float64[np.ndarray, "images 3"], up: Float64[np.ndarray, "3"]
) -> tuple[Float64[np.ndarray, "3"], float] | None:
    """Return the ground's unit normal and its height along it; None if the points below the cameras show no plane.

    The plane with most points of many trials counts if its normal is close to `up`.
    """
    below = points[points @ up < np.median(centers @ up)]
    if len(below) < 50:
        return None
    reach = float(np.median(np.linalg.norm(below - np.median(centers, axis=0), axis=1)))
    generator = np.random.default_rng(0)
    best = np.zeros(len(below), dtype=bool)
    for _ in range(TRIALS):
        a, b, c = below[generator.choice(len(below), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length > 0.0 and abs(float(normal @ up)) > np.cos(MAX_TILT) * length:
            near = np.abs((below - a) @ normal) < THICKNESS * reach * length
            best = near if near.sum() > best.sum() else best
    if best.mean() < MIN_GROUND:
        return None
    middle = below[best].mean(axis=0)
    normal = np.linalg.svd(below[best] - middle, full_matrices=False)[2][2]
    normal = normal if normal @ up > 0 else -normal
    return normal, float(middle @ normal)


def upright_transform(
    camera_to_world: Float64[np.ndarray, "images 3 4"],
    viewer_up: Float64[np.ndarray, "images 3"],
    points: Float64[np.ndarray, "points 3"],
) -> tuple[Rows, bool]:
    """Return the rigid transform to a world with z up around the cameras, and whether the ground was found.

    z is 0 on the ground, or at the mean camera if there is none.
    """
    centers = camera_to_world[:, :, 3]
    up = up_of_cameras(camera_to_world, viewer_up)
    ground = ground_plane(points, centers, up)
    rotation = rotation_between(up if ground is None else ground[0], np.array([0.0, 0.0, 1.0]))
    offset = -rotation @ centers.mean(axis=0)
    if ground is not None:
        offset[2] = -ground[1]
    return to_rows(np.column_stack([rotation, offset])), ground is not None


def _levelled(
    up: Float64[np.ndarray, "3"],
    sideways: Float64[np.ndarray, "images 3"],
    forward: Float64[np.ndarray, "images 3"],
) -> Float64[np.ndarray, "3"]:
    """Return the most probable vertical of cameras that are held level; `up` if they are not."""
    _, axes = np.linalg.eigh(sideways.T @ sideways / ROLL**2 + forward.T @ forward / PITCH**2)
    axis = axes[:, 0] if axes[:, 0] @ up > 0 else -axes[:, 0]
    return axis if axis @ up > np.cos(MAX_TILT) else up


def _unit(vector: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
