"""Up direction and camera axes of a capture, from its cameras and points together.

Three cues are independent of the convention of a file. Cameras are rarely rolled, so their right vectors lie in the
horizontal plane. A camera that moves mostly looks where it goes. Structure from motion places points where cameras
look.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from blocknerf.capture.capture import Capture
from blocknerf.similarity import rotation_between, to_rows

MAX_POINTS, MAX_CAMERAS = 4_000, 60
"""Samples that cues are computed from; their shares are then accurate to a few percent."""
MIN_SEEN = 0.02
"""If a smaller share of the points is in any image, they do not fit the poses."""
SEEN_RATIO = 5.0
"""Flipped axes are certain if they put this many times more points into the images."""
MIN_HORIZONTAL_SPREAD = 0.02
"""Second eigenvalue of the right vectors' scatter, relative to the first, below which they are parallel."""
MIN_AGREEMENT = 0.7
"""Length of a mean unit vector that counts as a common direction (45 degrees)."""
MIN_MOTION = 0.5
"""Mean cosine between view and motion that counts as looking where one goes; a rig that looks all around has 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """The up direction of a capture's world."""

    direction: tuple[float, float, float]
    certain: bool
    """Whether the cue is strong: cameras of several headings, or upright cameras that move where they look."""

    @property
    def tilt(self) -> float:
        """Angle to +z in degrees."""
        return float(np.degrees(np.arccos(np.clip(self.direction[2], -1.0, 1.0))))

    @property
    def name(self) -> str:
        """The axis, or the vector if it is more than 10 degrees from every axis.

        >>> Up(direction=(0.0, -1.0, 0.0), certain=True).name
        '-y'
        """
        axis = int(np.argmax(np.abs(self.direction)))
        if abs(self.direction[axis]) < np.cos(np.radians(10.0)):
            return "({:.2f}, {:.2f}, {:.2f})".format(*self.direction)
        return f"{'-' if self.direction[axis] < 0 else ''}{'xyz'[axis]}"


def estimate_up(capture: Capture) -> Up | None:
    """Return the up direction that unrolled cameras imply; None if there is none, as for a ring in space.

    Right vectors of several headings span the horizontal plane; its normal is up, on the side of the cameras' own up
    vectors, or for cameras that look straight down against their view. Along one line, to and fro, the mean of both
    headings is up or, if cameras look down, down. A single heading leaves the mean up vector. It is certain if the
    cameras move where they look, or would look at the sky or stand on their heads with +z up: otherwise they may as
    well look down from the air.
    """
    rotations = _rotations(capture)
    right, up, forward = rotations[:, :, 0], -rotations[:, :, 1], rotations[:, :, 2]
    values, vectors = np.linalg.eigh(right.T @ right / len(right))
    if values[1] > MIN_HORIZONTAL_SPREAD * values[2] and values[0] < 0.3 * values[1]:
        normal = vectors[:, 0]
        side = up.mean(0) @ normal if abs(up.mean(0) @ normal) > 0.3 else -(forward.mean(0) @ normal)
        return Up(direction=_triple(normal * np.sign(side)), certain=bool(abs(side) > 0.3))
    to = right @ vectors[:, 2] > 0
    headings = [side for side in (to, ~to) if side.any()]
    up, forward = (np.mean([vector[side].mean(0) for side in headings], axis=0) for vector in (up, forward))
    longest = max(up, -forward, key=lambda vector: float(np.linalg.norm(vector))) if len(headings) == 2 else up
    if np.linalg.norm(longest) < MIN_AGREEMENT:
        return None
    if len(headings) == 2:
        return Up(direction=_triple(longest / np.linalg.norm(longest)), certain=True)
    implausible = forward[2] > 0.5 or up[2] < -0.5
    certain = bool(implausible or motion_agreement(capture) > MIN_MOTION)
    if not certain and forward[2] < -np.cos(np.radians(15.0)):
        return Up(direction=(0.0, 0.0, 1.0), certain=False)
    return Up(direction=_triple(up / np.linalg.norm(up)), certain=certain)


def motion_agreement(capture: Capture) -> float:
    """Return the mean cosine between optical axes and motion, -1 to 1; 0 for cameras that do not move."""
    cosines: list[float] = []
    tracks: dict[tuple[str, str], list[int]] = {}
    for i, frame in enumerate(capture.frames):
        tracks.setdefault((frame.segment, frame.camera), []).append(i)
    rotations, centers = _rotations(capture), _centers(capture)
    for members in tracks.values():
        steps = np.diff(centers[members], axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        moved = lengths > 1e-3 * max(float(lengths.max(initial=0.0)), 1e-12)
        cosines += ((steps * rotations[members[:-1], :, 2]).sum(1)[moved] / lengths[moved]).tolist()
    return float(np.mean(cosines)) if cosines else 0.0


def axes_are_flipped(capture: Capture) -> bool | None:
    """Return whether the camera axes are y up, z backward although the capture says y down, z forward.

    Points decide: which reading puts them into the images. Without points, cameras that move backward and stand on
    their heads are flipped, and so are cameras above the ground that look at the sky. None if the cues are weak.
    """
    step = max(1, len(capture) // MAX_CAMERAS)
    sample = capture.select(range(0, len(capture), step))
    seen = points_seen(sample)
    if seen is not None:
        other = points_seen(flip_axes(sample)) or 0.0
        if max(seen, other) >= MIN_SEEN and max(seen, other) > SEEN_RATIO * min(seen, other):
            return other > seen
    rotations, heights = _rotations(capture), _centers(capture)[:, 2]
    up, forward = -rotations[:, 2, 1].mean(), rotations[:, 2, 2].mean()
    if motion_agreement(capture) < -MIN_MOTION and up < -MIN_AGREEMENT:
        return True
    looks_at_sky = forward > np.cos(np.radians(25.0)) and heights.min() > 0.1 * capture.extent
    return True if looks_at_sky else None


def points_seen(capture: Capture) -> float | None:
    """Return the share of the points, 0 to 1, that are in at least one image; None without points."""
    cloud = capture.read_sparse_points() or capture.read_lidar_points()
    if cloud is None or len(cloud) == 0:
        return None
    points = torch.from_numpy(cloud.positions[:: max(1, len(cloud) // MAX_POINTS)])
    step = max(1, len(capture) // MAX_CAMERAS)
    cameras = capture.select(range(0, len(capture), step)).cameras()
    seen = torch.zeros(len(points), dtype=torch.bool)
    for i in range(len(cameras)):
        seen |= cameras.project(points, i)[2]
    return float(seen.double().mean())


def flip_axes(capture: Capture) -> Capture:
    """Return the capture with the y and z axis of each camera reversed."""
    signs = np.array([1.0, -1.0, -1.0, 1.0])
    frames = [
        replace(frame, camera_to_world=to_rows(np.array(frame.camera_to_world) * signs)) for frame in capture.frames
    ]
    return replace(capture, frames=tuple(frames))


def rotation_to_z(direction: tuple[float, float, float]) -> Float64[np.ndarray, "3 3"]:
    """Return the smallest rotation that turns a unit vector to +z; exact for an axis or within 3 degrees of one."""
    vector = np.array(direction)
    axis = int(np.argmax(np.abs(vector)))
    if abs(vector[axis]) > np.cos(np.radians(3.0)):
        vector = np.sign(vector[axis]) * np.eye(3)[axis]
    return rotation_between(vector, np.array([0.0, 0.0, 1.0]))


def _rotations(capture: Capture) -> Float64[np.ndarray, "frames 3 3"]:
    return np.array([frame.camera_to_world for frame in capture.frames])[:, :, :3]


def _centers(capture: Capture) -> Float64[np.ndarray, "frames 3"]:
    return np.array([frame.center for frame in capture.frames])


def _triple(vector: Float64[np.ndarray, "3"]) -> tuple[float, float, float]:
    x, y, z = (float(number) for number in vector)
    return x, y, z
