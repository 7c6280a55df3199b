"""Capture geometry: order along tracks, points, viewing direction."""

from dataclasses import replace

import numpy as np
import torch

from blocknerf.capture import PointCloud, write_ply
from blocknerf.partitioning.capture_geometry import capture_geometry, subsample_points

PATH = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])


def test_tracks_are_sorted_by_time_or_else_by_name(drive) -> None:
    capture = drive(PATH)
    named = [replace(frame, name=f"image{i}") for i, frame in zip((9, 11, 10, 2), capture.frames, strict=True)]
    timed = [replace(frame, timestamp=time) for time, frame in zip((3.0, 1.0, 2.0, 0.5), named, strict=True)]
    assert capture_geometry(replace(capture, frames=tuple(named))).sorted_tracks() == [[3, 0, 2, 1]]
    assert capture_geometry(replace(capture, frames=tuple(timed))).sorted_tracks() == [[3, 1, 2, 0]]


def test_each_camera_of_each_segment_is_a_track(drive) -> None:
    capture = drive(PATH, segments=["b", "a", "b", "a"])
    frames = [replace(frame, camera="left" if i < 2 else "right") for i, frame in enumerate(capture.frames)]
    assert capture_geometry(replace(capture, frames=tuple(frames))).sorted_tracks() == [[1], [3], [0], [2]]


def test_points_are_sparse_ones_else_lidar_else_none(drive, with_points, tmp_path) -> None:
    overrides = with_points(np.full((3, 3), 1.0))
    write_ply(PointCloud(positions=np.full((4, 3), 2.0, np.float32), colors=None), tmp_path / "lidar.ply")
    both = drive(PATH, **overrides, lidar_points="lidar.ply")
    assert capture_geometry(both).points.unique().tolist() == [1.0]
    assert capture_geometry(replace(both, sparse_points=None)).points.unique().tolist() == [2.0]
    assert capture_geometry(replace(both, sparse_points=None, lidar_points=None)).points is None


def test_aerial_captures_are_detected(drive, flight) -> None:
    assert not capture_geometry(drive(PATH)).is_aerial
    assert capture_geometry(flight(torch.tensor([[0.0, 0.0, 30.0], [9.0, 0.0, 30.0]]))).is_aerial


def test_subsampled_points_are_evenly_spaced() -> None:
    points = torch.arange(1000.0)[:, None].expand(-1, 3)
    subsampled = subsample_points(points, 11)
    assert subsampled[:, 0].tolist() == [round(i * 99.9) for i in range(11)]
    assert subsample_points(points, 2000) is points
