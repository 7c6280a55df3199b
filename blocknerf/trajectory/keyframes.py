"""A film through a few chosen views."""

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
    """A film that passes through every keyframe, in position by a cubic spline, in orientation by a spherical one.

    Keyframes get time in proportion to the way between them and to the turn, whichever is the greater part of
    the whole, so neither flights nor pans rush. Orientations go the shorter way round, with a continuous rate of
    turn; lenses change evenly in their logarithm.

    Args:
        camera_to_world: Two or more poses, OpenCV axes.
        focals: In pixels of the film.
        frames: How many pictures the film has.
        width: Of the film, in pixels.
        height: Of the film, in pixels.
        fps: Pictures a second.

    Raises:
        RunError: there are fewer than two keyframes, two neighbors are the same, or a size or count is impossible.
    """
    if len(camera_to_world) < 2 or frames < 2:
        raise RunError(f"trajectory: {len(camera_to_world)} keyframes and {frames} frames; give at least 2 of each")
    check_video(frames, width, height, fps)
    poses = camera_to_world.double().numpy()
    turns = Rotation.from_matrix(poses[:, :, :3])
    times = _times(poses[:, :, 3], turns)
    wanted = np.linspace(0.0, 1.0, frames)
    positions = CubicSpline(times, poses[:, :, 3])(wanted)
    matrices = RotationSpline(times, turns)(wanted).as_matrix()
    lenses = np.exp(np.interp(wanted, times, np.log(focals.double().numpy())))
    return Trajectory(
        camera_to_world=torch.from_numpy(np.concatenate([matrices, positions[:, :, None]], -1)).float(),
        focals=torch.from_numpy(lenses).float(),
        width=width,
        height=height,
        fps=fps,
    )


def _times(positions: Float[np.ndarray, "keyframes 3"], turns: Rotation) -> Float[np.ndarray, "keyframes"]:
    """When each keyframe is passed, from 0 to 1."""
    distances = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    angles = (turns[:-1].inv() * turns[1:]).magnitude()
    parts = [effort / effort.sum() for effort in (distances, np.where(angles < 1e-6, 0.0, angles)) if effort.sum() > 0]
    efforts = np.maximum.reduce(parts) if parts else distances
    if (efforts <= 0).any():
        first = int(np.flatnonzero(efforts <= 0)[0])
        raise RunError(f"trajectory: keyframes {first} and {first + 1} are the same view; remove one of them")
    times = np.concatenate([[0.0], np.cumsum(efforts)])
    return times / times[-1]
