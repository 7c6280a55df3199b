"""Capture geometry for placement and frame assignment: camera positions and points."""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture

AERIAL_PITCH = -0.6
"""A capture with a median vertical component of its optical axes below this is aerial (37 degrees downward)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureGeometry:
    """Cameras in capture order, with the keys that sort them along a track, and the scene's points."""

    names: tuple[str, ...]
    cameras: Cameras
    tracks: tuple[tuple[str, str], ...]
    """Segment and camera of each frame; frames that share both were taken along one path."""
    frame_order: tuple[tuple, ...]
    """Key that sorts the frames of a track along its path."""
    points: Float[Tensor, "points 3"] | None
    """Sparse points, else LiDAR points; None if the capture has neither."""
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
        """Whether most cameras look down, as from the air."""
        return bool(self.forwards[:, 2].median() < AERIAL_PITCH)

    def sorted_tracks(self) -> list[list[int]]:
        """Return the frame indices of each track in the order of capture, whatever their order in the file."""
        tracks: dict[tuple[str, str], list[int]] = {}
        for i, track in enumerate(self.tracks):
            tracks.setdefault(track, []).append(i)
        return [sorted(tracks[track], key=self.frame_order.__getitem__) for track in sorted(tracks)]


def capture_geometry(capture: Capture) -> CaptureGeometry:
    """Return the geometry of a capture; reads its points but not its images."""
    names, times = capture.column("name"), capture.column("timestamp")
    has_timestamps = None not in times
    cloud = capture.read_sparse_points()
    if cloud is None or len(cloud.positions) == 0:
        cloud = capture.read_lidar_points()
    positions = None if cloud is None or len(cloud.positions) == 0 else torch.from_numpy(cloud.positions).float()
    return CaptureGeometry(
        names=tuple(names),
        cameras=capture.cameras(),
        tracks=tuple(zip(capture.column("segment"), capture.column("camera"), strict=True)),
        frame_order=tuple(zip(times, names, strict=True)) if has_timestamps else tuple(map(natural_sort_key, names)),
        points=positions,
        is_metric=capture.is_metric,
        extent=capture.extent,
    )


def natural_sort_key(name: str) -> tuple:
    """Return a sort key that compares numbers by value.

    >>> sorted(["image10", "image9"], key=natural_sort_key)
    ['image9', 'image10']
    """
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name))


def subsample_points(points: Shaped[Tensor, "points *axes"], max_points: int) -> Shaped[Tensor, "few *axes"]:
    """Return at most `max_points` of the points (or their indices), evenly spaced in their order: deterministic."""
    if len(points) <= max_points:
        return points
    return points[torch.linspace(0, len(points) - 1, max_points, dtype=torch.float64).round().long()]
