"""Cameras around one point: the point, and a path once around it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras, look_at
from blocknerf.trajectory.trajectory import Trajectory, check_video

MIN_SPREAD = 0.05
"""Smallest eigenvalue of the mean projection across the optical axes, 0 if all are parallel."""
MAX_OFF_AXIS = 30.0
"""Degrees from its optical axis within which a camera sees the point."""
MIN_SHARE = 0.9
"""Fraction of the cameras that see the point."""


def common_look_at(cameras: Cameras) -> Float[Tensor, "3"] | None:
    """Return the common look-at point of all cameras, as around one object; None if they have none.

    It is the least-squares intersection of the optical axes. It exists if the axes are far from parallel and 90 % of
    the cameras see it within 30 degrees of their axis.
    """
    centers, forwards = cameras.centers.double(), cameras.camera_to_world[:, :, 2].double()
    projections = torch.eye(3, dtype=torch.float64) - forwards[:, :, None] * forwards[:, None, :]
    mean = projections.mean(0)
    if float(torch.linalg.eigvalsh(mean)[0]) < MIN_SPREAD:
        return None
    point = torch.linalg.solve(mean, (projections @ centers[:, :, None]).mean(0)[:, 0])
    directions = torch.nn.functional.normalize(point - centers, dim=-1)
    is_ahead = (directions * forwards).sum(-1) > math.cos(math.radians(MAX_OFF_AXIS))
    return point.to(cameras.centers) if float(is_ahead.double().mean()) >= MIN_SHARE else None


def orbit(
    cameras: Cameras,
    target: Float[Tensor, "3"],
    *,
    focal: float,
    frames: int,
    width: int,
    height: int,
    fps: float = 24.0,
) -> Trajectory:
    """Return a circle around a point, once around, at the cameras' median height and distance from the vertical axis.

    Args:
        cameras: Cameras around the point; the path begins at the side of the first one.
        target: The point, in the middle of every frame.
        focal: Focal length in pixels.
        frames: Number of frames of the video.
        width: Width of the video, in pixels.
        height: Height of the video, in pixels.
        fps: Frames per second.

    Raises:
        RunError: A size or count is invalid.
    """
    check_video(frames, width, height, fps)
    offsets = cameras.centers - target
    start = math.atan2(float(offsets[0, 1]), float(offsets[0, 0]))
    angles = start + torch.arange(frames) * (2.0 * math.pi / frames)
    radius, rise = offsets[:, :2].norm(dim=-1).median(), offsets[:, 2].median()
    eyes = target + torch.stack([radius * angles.cos(), radius * angles.sin(), rise.expand(frames)], -1)
    return Trajectory(
        camera_to_world=look_at(eyes, target.expand(frames, 3)),
        focals=torch.full((frames,), focal),
        width=width,
        height=height,
        fps=fps,
    )
