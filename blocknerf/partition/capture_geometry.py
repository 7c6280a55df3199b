"""What placement and membership need to know of a capture: where its cameras stand, and what they see."""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture

AERIAL_PITCH = -0.6
"""Median upward component of the optical axes below which a capture looks down (37 degrees below the horizon)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureGeometry:
    """Cameras in capture order, with the keys that order them along a drive, and the scene's points."""

    names: tuple[str, ...]
    cameras: Cameras
    tracks: tuple[tuple[str, str], ...]
    """Segment and camera of each frame: frames that share both were taken along one path."""
    frame_order: tuple[tuple, ...]
    """Key that sorts the frames of a track along its path."""
    points: Float[Tensor, "points 3"] | None
    """Sparse points, else LiDAR; None where the capture has neither."""
    is_metric: bool
    extent: float

    def __len__(self) -> int:
        return len(self.names)

    @property
    def centers(self) -> Float[Tensor, "frames 3"]:
        return self.cameras.centers

    @property
    def forwards(self) -> Float[Tensor, "frames 3"]:
        """Unit vectors along the optical axes."""
        return self.cameras.camera_to_world[:, :, 2]

    @property
    def is_aerial(self) -> bool:
        """Whether most cameras look at the ground, as from the air."""
        return bool(self.forwards[:, 2].median() < AERIAL_PITCH)

    def sorted_tracks(self) -> list[list[int]]:
        """Frame indices of each track in the order they were taken, whatever the order in the capture."""
        tracks: dict[tuple[str, str], list[int]] = {}
        for i in sorted(range(len(self)), key=lambda i: (self.tracks[i], self.frame_order[i])):
            tracks.setdefault(self.tracks[i], []).append(i)
        return list(tracks.values())


def capture_geometry(capture: Capture) -> CaptureGeometry:
    """The survey of a capture; reads its points, not its photographs."""
    timed = all(frame.timestamp is not None for frame in capture.frames)
    cloud = capture.read_sparse_points()
    if cloud is None or len(cloud.positions) == 0:
        cloud = capture.read_lidar_points()
    positions = None if cloud is None or len(cloud.positions) == 0 else torch.from_numpy(cloud.positions).float()
    return CaptureGeometry(
        names=tuple(frame.name for frame in capture.frames),
        cameras=capture.cameras(),
        tracks=tuple((frame.segment, frame.camera) for frame in capture.frames),
        frame_order=tuple(
            (frame.timestamp, frame.name) if timed else natural_sort_key(frame.name) for frame in capture.frames
        ),
        points=positions,
        is_metric=capture.is_metric,
        extent=capture.extent,
    )


def natural_sort_key(name: str) -> tuple:
    """A sorting key that counts numbers as numbers.

    >>> sorted(["image10", "image9"], key=natural_sort_key)
    ['image9', 'image10']
    """
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name))


def subsample_points(points: Float[Tensor, "points 3"], most: int) -> Float[Tensor, "few 3"]:
    """At most `most` of the points, evenly through their order, so that the same input gives the same choice."""
    if len(points) <= most:
        return points
    return points[torch.linspace(0, len(points) - 1, most, dtype=torch.float64).round().long()]
