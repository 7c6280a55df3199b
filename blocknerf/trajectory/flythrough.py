"""Smooth fly-through along the path of a capture's camera."""

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
"""Standard deviation of position smoothing relative to the path length; at least the spacing of the images."""

ROTATION_SMOOTHING = 2.0
"""Ratio of rotation to position smoothing: residual rotation is more disturbing than residual translation."""

AERIAL_PITCH = -0.9
"""Mean z component of the viewing directions below which a capture counts as looking straight down."""

MAX_HALF_FOV_TAN = 1.2
"""Maximum of half the image width over the focal length (100 degrees); a wider lens is cropped to its center."""

ImagePoses = Float[np.ndarray, "images 3 4"]
FramePoses = Float[np.ndarray, "frames 3 4"]


def smooth_path(
    cameras: Cameras,
    capture_frames: Sequence[FrameLike],
    *,
    frames: int,
    width: int,
    height: int,
    fps: float = 24.0,
    segment: str | None = None,
) -> Trajectory:
    """Return a smooth trajectory of constant speed along the longest contiguous path of the capture.

    It follows the most forward-looking camera. For a capture that looks straight down, north stays up as on a map,
    since the turns of the aircraft would rotate the video.

    Args:
        cameras: Cameras of all images.
        capture_frames: Frames of the capture, in the same order.
        frames: Number of frames of the video.
        width: Width of the video, in pixels.
        height: Height of the video, in pixels; the vertical field of view is that of the capture.
        fps: Frames per second.
        segment: Segment to follow; by default the longest.

    Raises:
        RunError: There is no path to follow, or a size or count is invalid.
    """
    check_video(frames, width, height, fps)
    path = list(longest_path(cameras, capture_frames, segment).frames)
    poses = smooth_poses(cameras.camera_to_world[path].double().numpy(), frames)
    focals = pinhole_focals(cameras[torch.tensor(path)], width, height)
    return Trajectory(
        camera_to_world=torch.from_numpy(poses).float(),
        focals=focals.median().expand(frames),
        width=width,
        height=height,
        fps=fps,
    )


def smooth_poses(poses: ImagePoses, count: int) -> FramePoses:
    """Return `count` poses of constant speed along the smoothed path through the given poses.

    The path starts and ends at the first and last pose. Stops are skipped.
    """
    poses = poses[_moving(poses[:, :, 3])]
    if len(poses) == 1:
        return np.repeat(poses, count, axis=0)
    arc_length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(poses[:, :, 3], axis=0), axis=-1))])
    dense = np.linspace(0.0, arc_length[-1], max(1024, 8 * len(poses), 4 * count))
    # In dense samples; limited so that a short path does not collapse into its chord.
    sigma = max(median_step(poses[:, :, 3]) / arc_length[-1], SMOOTHING) * len(dense)
    sigma = min(sigma, len(dense) / 8)
    positions = _smooth_line(np.stack([np.interp(dense, arc_length, axis) for axis in poses[:, :, 3].T], -1), sigma)
    rotations = Slerp(arc_length, Rotation.from_matrix(poses[:, :, :3]))(dense)
    rotations = _smooth_rotations(rotations, sigma * ROTATION_SMOOTHING)
    if poses[:, 2, 2].mean() < AERIAL_PITCH:
        rotations = Rotation.from_matrix(np.repeat(_north_up()[None], len(dense), axis=0))
    return _constant_speed(positions, rotations, count)


def _moving(positions: Float[np.ndarray, "frames 3"]) -> list[int]:
    """Return the indices of images far enough apart to define a direction; one index per stop."""
    min_distance = 0.2 * median_step(positions)
    indices = [0]
    for i in range(1, len(positions)):
        if np.linalg.norm(positions[i] - positions[indices[-1]]) > min_distance:
            indices.append(i)
    return indices


def _smooth_line(line: Float[np.ndarray, "dense 3"], sigma: float) -> Float[np.ndarray, "dense 3"]:
    """Smooth a line with a Gaussian; both ends stay in place because the line is reflected there."""
    margin = min(len(line) - 1, int(4 * sigma) + 1)
    before, after = 2 * line[0] - line[margin:0:-1], 2 * line[-1] - line[-2 : -margin - 2 : -1]
    padded = gaussian_filter1d(np.concatenate([before, line, after]), sigma, axis=0, mode="nearest")
    return padded[margin : margin + len(line)]


def _smooth_rotations(rotations: Rotation, sigma: float) -> Rotation:
    """Smooth rotations with a Gaussian over quaternions, which is accurate because neighbors are close together."""
    quaternions = rotations.as_quat()
    flips = np.sign((quaternions[1:] * quaternions[:-1]).sum(-1))
    quaternions[1:] *= np.cumprod(np.where(flips == 0, 1.0, flips))[:, None]
    mean = gaussian_filter1d(quaternions, sigma, axis=0, mode="nearest")
    # Opposite rotations within the window cancel; there the unsmoothed rotation is used.
    norm = np.linalg.norm(mean, axis=-1, keepdims=True)
    return Rotation.from_quat(np.where(norm > 1e-3, mean, quaternions))


def _constant_speed(line: Float[np.ndarray, "dense 3"], rotations: Rotation, count: int) -> FramePoses:
    arc_length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=-1))])
    samples = np.linspace(0.0, arc_length[-1], count)
    positions = np.stack([np.interp(samples, arc_length, axis) for axis in line.T], -1)
    return np.concatenate([Slerp(arc_length, rotations)(samples).as_matrix(), positions[:, :, None]], -1)


def _north_up() -> Float[np.ndarray, "3 3"]:
    """Return the rotation of a camera that looks straight down, with the world's y axis up in the image."""
    return np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])


def pinhole_focals(cameras: Cameras, width: int, height: int) -> Float[Tensor, "cameras"]:
    """Return pinhole focal lengths, in pixels, that keep each camera's vertical field of view at a video size."""
    focals = cameras.intrinsics[:, 1] / cameras.height * height
    return focals.clamp_min(width / (2 * MAX_HALF_FOV_TAN))
