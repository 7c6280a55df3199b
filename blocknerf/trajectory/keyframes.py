"""Trajectory through keyframes."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline
from torch import Tensor

from blocknerf.errors import RunError
from blocknerf.trajectory.trajectory import Trajectory, check_video


def through_keyframes(
    camera_to_world: Float[Tensor, "keyframes 3 4"],
    focals: Float[Tensor, "keyframes"],
    *,
    frames: int,
    width: int,
    height: int,
    fps: float = 24.0,
) -> Trajectory:
    """Return a trajectory through all keyframes: a cubic spline of positions and a rotation spline of orientations.

    The time between two keyframes is proportional to the distance or to the rotation angle between them, relative to
    their totals, whichever is larger, so both translations and rotations have a moderate speed. Rotations take the
    shorter direction, with continuous angular velocity. Focal lengths are interpolated in log space.

    Args:
        camera_to_world: Two or more poses, OpenCV axes.
        focals: Focal lengths in pixels of the video.
        frames: Number of frames of the video.
        width: Width of the video, in pixels.
        height: Height of the video, in pixels.
        fps: Frames per second.

    Raises:
        RunError: There are fewer than two keyframes, two neighbors are equal, or a size or count is invalid.
    """
    if len(camera_to_world) < 2 or frames < 2:
        raise RunError(f"trajectory: {len(camera_to_world)} keyframes and {frames} frames; use at least 2 of each")
    check_video(frames, width, height, fps)
    poses = camera_to_world.double().numpy()
    rotations = Rotation.from_matrix(poses[:, :, :3])
    times = _keyframe_times(poses[:, :, 3], rotations)
    frame_times = np.linspace(0.0, 1.0, frames)
    positions = CubicSpline(times, poses[:, :, 3])(frame_times)
    matrices = RotationSpline(times, rotations)(frame_times).as_matrix()
    frame_focals = np.exp(np.interp(frame_times, times, np.log(focals.double().numpy())))
    return Trajectory(
        camera_to_world=torch.from_numpy(np.concatenate([matrices, positions[:, :, None]], -1)).float(),
        focals=torch.from_numpy(frame_focals).float(),
        width=width,
        height=height,
        fps=fps,
    )


def _keyframe_times(positions: Float[np.ndarray, "keyframes 3"], rotations: Rotation) -> Float[np.ndarray, "keyframes"]:
    """Return the time of each keyframe, from 0 to 1."""
    distances = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    angles = (rotations[:-1].inv() * rotations[1:]).magnitude()
    changes = distances, np.where(angles < 1e-6, 0.0, angles)
    fractions = [change / change.sum() for change in changes if change.sum() > 0]
    durations = np.maximum.reduce(fractions) if fractions else distances
    if (durations <= 0).any():
        first = int(np.flatnonzero(durations <= 0)[0])
        raise RunError(f"trajectory: keyframes {first} and {first + 1} are the same view; remove one of them")
    times = np.concatenate([[0.0], np.cumsum(durations)])
    return times / times[-1]
