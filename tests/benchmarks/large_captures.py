"""Large synthetic captures: a rig of 12 cameras along a grid of streets, with points; no image exists on disk."""

import math
from pathlib import Path

import numpy as np

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import write_capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.similarity import to_rows

CAMERAS = 12
STREET = 150.0
"""Distance between parallel streets (m)."""
POSITIONS_PER_SEGMENT = 1000


def write_large_capture(folder: Path, frames: int, points: int, spacing: float = 2.0) -> Path:
    """Write the capture of a drive that stops for images every `spacing` meters; return its capture.json."""
    positions = math.ceil(frames / CAMERAS)
    corners = _route(positions * spacing)
    arc = np.concatenate([[0.0], np.linalg.norm(np.diff(corners, axis=0), axis=1).cumsum()])
    along = np.linspace(0.0, min(arc[-1], positions * spacing), positions)
    centers = np.stack([np.interp(along, arc, axis) for axis in corners.T], -1)
    headings = np.arctan2(*np.gradient(centers, axis=0).T[::-1])
    folder.mkdir(parents=True, exist_ok=True)
    write_ply(_points(corners, arc, along[-1], points), folder / "points3D.ply")
    capture = Capture(
        image_dir=folder,
        frames=tuple(_frame(i, centers[i // CAMERAS], headings[i // CAMERAS]) for i in range(frames)),
        sparse_points="points3D.ply" if points else None,
        is_metric=True,
        geo_origin=(48.0, 11.0, 500.0),
        source="synthetic",
    )
    write_capture(capture, folder / "capture.json")
    return folder / "capture.json"


def _route(length: float) -> np.ndarray:
    """Return the corners of a drive of at least that length, through all streets of a square grid."""
    count = 2
    while 2 * count * (count - 1) * STREET < 0.999 * length:
        count += 1
    ends = (0.0, (count - 1) * STREET)
    rows = [(ends[(j + k) % 2], j * STREET) for j in range(count) for k in range(2)]
    starts_left = rows[-1][0] == 0.0
    columns = range(count) if starts_left else range(count - 1, -1, -1)
    rows += [(i * STREET, ends[(n + k + 1) % 2]) for n, i in enumerate(columns) for k in range(2)]
    return np.array(rows)


def _frame(index: int, center: np.ndarray, heading: float) -> Frame:
    position, camera = divmod(index, CAMERAS)
    angle = heading + camera * 2 * math.pi / CAMERAS
    x, y = math.cos(angle), math.sin(angle)
    # A little off the center of the rig, so that no two cameras coincide.
    pose = [[y, 0.0, x, center[0] + 0.3 * x], [-x, 0.0, y, center[1] + 0.3 * y], [0.0, -1.0, 0.0, 2.0]]
    name = f"images/{index // 10_000:03d}/{position:06d}_{camera:02d}.jpg"
    return Frame(
        name=name,
        image=name,
        intrinsics=Intrinsics(width=32, height=20, fx=25.6, fy=25.6, cx=16.0, cy=10.0),
        camera_to_world=to_rows(np.array(pose)),
        segment=f"drive{position // POSITIONS_PER_SEGMENT:04d}",
        camera=f"cam{camera:02d}",
        timestamp=1.6e9 + 0.5 * position,
        exposure=0.01 * (1 + 0.5 * math.sin(position / 50)),
    )


def _points(corners: np.ndarray, arc: np.ndarray, length: float, count: int) -> PointCloud:
    """Return points at the height of facades, 6 to 12 m off the route."""
    rng = np.random.default_rng(0)
    along, angles, offsets = rng.random(count) * length, rng.random(count) * 2 * math.pi, 6 + 6 * rng.random(count)
    x, y = (np.interp(along, arc, axis) for axis in corners.T)
    z = 8 * rng.random(count)
    positions = np.stack([x + offsets * np.cos(angles), y + offsets * np.sin(angles), z], -1).astype(np.float32)
    return PointCloud(positions=positions, colors=np.full((count, 3), 128, np.uint8))
