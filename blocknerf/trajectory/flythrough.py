"""A smooth film along the way that a capture's own camera took."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.trajectory.capture_path import FrameLike, longest_path, median_step
from blocknerf.trajectory.trajectory import Trajectory, check_video

SMOOTHING = 1.0 / 80.0
"""Standard deviation of the smoothing of positions, as a share of the way; at least the photographs' spacing."""

ROTATION_SMOOTHING = 2.0
"""Orientations are smoothed over this many times as far: a camera that nods disturbs more than one that drifts."""

AERIAL_PITCH = -0.9
"""Mean height of the viewing directions from which a capture counts as looking straight down."""

MAX_HALF_FOV_TAN = 1.2
"""Half the image's width over the focal length at most (100 degrees): a wider lens is filmed through its middle."""

Photographs = Float[np.ndarray, "photographs 3 4"]
Poses = Float[np.ndarray, "frames 3 4"]


def smooth_path(
    cameras: Cameras,
    shots: Sequence[FrameLike],
    *,
    frames: int,
    width: int,
    height: int,
    fps: float = 24.0,
    segment: str | None = None,
) -> Trajectory:
    """A film of constant speed along the longest stretch of the capture's way, without its jitter.

    It follows the most forward-looking camera. Where the capture looks straight down it keeps north up, as
    a map does, since an aircraft's turns would spin the picture.

    Args:
        cameras: Of all photographs.
        shots: The photographs, in the same order.
        frames: How many pictures the film has.
        width: Of the film, in pixels.
        height: Of the film, in pixels; its vertical field of view is the capture's.
        fps: Pictures a second.
        segment: Which segment to follow; by default the longest.

    Raises:
        RunError: there is no way to follow, or a size or count is impossible.
    """
    check_video(frames, width, height, fps)
    followed = list(longest_path(cameras, shots, segment).frames)
    poses = smooth_poses(cameras.camera_to_world[followed].double().numpy(), frames)
    focals = pinhole_focals(cameras[torch.tensor(followed)], width, height)
    return Trajectory(
        camera_to_world=torch.from_numpy(poses).float(),
        focals=focals.median().expand(frames),
        width=width,
        height=height,
        fps=fps,
    )


def smooth_poses(poses: Photographs, count: int) -> Poses:
    """As many poses as asked for, of constant speed, along the smoothed way through the given ones.

    The way begins and ends where the first and last pose stand; poses at rest are passed over.
    """
    poses = poses[_moving(poses[:, :, 3])]
    if len(poses) == 1:
        return np.repeat(poses, count, axis=0)
    place = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(poses[:, :, 3], axis=0), axis=-1))])
    dense = np.linspace(0.0, place[-1], max(1024, 8 * len(poses), 4 * count))
    # In dense samples; never so wide that a short way collapses into its chord.
    sigma = max(median_step(poses[:, :, 3]) / place[-1], SMOOTHING) * len(dense)
    sigma = min(sigma, len(dense) / 8)
    positions = _smooth_line(np.stack([np.interp(dense, place, axis) for axis in poses[:, :, 3].T], -1), sigma)
    turns = _smooth_rotations(Slerp(place, Rotation.from_matrix(poses[:, :, :3]))(dense), sigma * ROTATION_SMOOTHING)
    if poses[:, 2, 2].mean() < AERIAL_PITCH:
        turns = Rotation.from_matrix(np.repeat(_north_up()[None], len(dense), axis=0))
    return _constant_speed(positions, turns, count)


def _moving(positions: Float[np.ndarray, "frames 3"]) -> list[int]:
    """Photographs apart enough to give a direction: those of a stop say where it stood, once."""
    apart = 0.2 * median_step(positions)
    kept = [0]
    for i in range(1, len(positions)):
        if np.linalg.norm(positions[i] - positions[kept[-1]]) > apart:
            kept.append(i)
    return kept


def _smooth_line(line: Float[np.ndarray, "dense 3"], sigma: float) -> Float[np.ndarray, "dense 3"]:
    """Gaussian smoothing that leaves both ends where they are, by reflecting the line in them."""
    margin = min(len(line) - 1, int(4 * sigma) + 1)
    before, after = 2 * line[0] - line[margin:0:-1], 2 * line[-1] - line[-2 : -margin - 2 : -1]
    padded = gaussian_filter1d(np.concatenate([before, line, after]), sigma, axis=0, mode="nearest")
    return padded[margin : margin + len(line)]


def _smooth_rotations(turns: Rotation, sigma: float) -> Rotation:
    """Gaussian smoothing of orientations: the mean quaternion of neighbors, which lie close together here."""
    quaternions = turns.as_quat()
    flips = np.sign((quaternions[1:] * quaternions[:-1]).sum(-1))
    quaternions[1:] *= np.cumprod(np.where(flips == 0, 1.0, flips))[:, None]
    mean = gaussian_filter1d(quaternions, sigma, axis=0, mode="nearest")
    # Opposite orientations within the window cancel; there the unsmoothed one is as good as any.
    norm = np.linalg.norm(mean, axis=-1, keepdims=True)
    return Rotation.from_quat(np.where(norm > 1e-3, mean, quaternions))


def _constant_speed(line: Float[np.ndarray, "dense 3"], turns: Rotation, count: int) -> Poses:
    place = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=-1))])
    wanted = np.linspace(0.0, place[-1], count)
    positions = np.stack([np.interp(wanted, place, axis) for axis in line.T], -1)
    return np.concatenate([Slerp(place, turns)(wanted).as_matrix(), positions[:, :, None]], -1)


def _north_up() -> Float[np.ndarray, "3 3"]:
    """Looking straight down with the world's y axis upward in the image."""
    return np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])


def pinhole_focals(cameras: Cameras, width: int, height: int) -> Float[Tensor, "cameras"]:
    """Focal lengths of square pixels that keep each camera's vertical field of view in a film of that size."""
    focals = cameras.intrinsics[:, 1] / cameras.height * height
    return focals.clamp_min(width / (2 * MAX_HALF_FOV_TAN))
