"""Small captures of known geometry, without images: a street, a drone flight, a forward-facing set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from blocknerf.cameras import look_at
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.similarity import to_rows

LENS = Intrinsics(width=192, height=108, fx=114.0, fy=114.0, cx=96.0, cy=54.0)


def street(headings: Sequence[float] = (0.7,), frames: int = 12, pitch: float = -5.0) -> Capture:
    """Return a drive along segments with these headings (radians), 2 m above the ground."""
    eyes, targets, segments = [], [], []
    start = np.array([0.0, 0.0, 2.0])
    for number, heading in enumerate(headings):
        ahead = np.array([np.cos(heading), np.sin(heading), 0.0])
        for _ in range(frames):
            eyes.append(start.copy())
            targets.append(start + ahead + [0.0, 0.0, np.tan(np.radians(pitch))])
            segments.append(str(number))
            start += 2.0 * ahead
    return _capture(eyes, targets, segments)


def drone(pitch: float = -87.0, height: float = 40.0) -> Capture:
    """Return a serpentine flight of three lines that looks down at this pitch (degrees) along its heading."""
    eyes, targets = [], []
    for line in range(3):
        direction = 1.0 if line % 2 == 0 else -1.0
        for step in range(8):
            eye = np.array([direction * (step * 8.0 - 28.0), line * 20.0 - 20.0, height])
            forward = [direction * np.cos(np.radians(pitch)), 0.0, np.sin(np.radians(pitch))]
            eyes.append(eye)
            targets.append(eye + forward)
    return _capture(eyes, targets, ["0"] * len(eyes))


def forward_facing() -> Capture:
    """Return cameras on a small vertical grid that all look along y, as in LLFF captures."""
    eyes = [np.array([0.3 * x, 0.0, 0.2 * z]) for z in range(4) for x in range(6)]
    return _capture(eyes, [np.add(eye, (0.0, 1.0, 0.0)) for eye in eyes], ["0"] * len(eyes))


def with_points(capture: Capture, folder: Path) -> Capture:
    """Return the capture with sparse points on the ground (z = 0) around it, in a file of the folder."""
    centers = np.array([frame.center for frame in capture.frames])
    generator = np.random.default_rng(0)
    low, high = centers[:, :2].min(0) - 5, centers[:, :2].max(0) + 5
    positions = np.column_stack([generator.uniform(low, high, (2_000, 2)), np.zeros(2_000)]).astype(np.float32)
    write_ply(PointCloud(positions=positions), folder / "points.ply")
    return replace(capture, points_dir=folder, sparse_points="points.ply")


def turned(capture: Capture, rotation: np.ndarray) -> Capture:
    """Return the capture in a world that is rotated about its origin."""
    frames = [
        replace(frame, camera_to_world=to_rows(rotation @ np.array(frame.camera_to_world))) for frame in capture.frames
    ]
    return replace(capture, frames=tuple(frames))


def moved(capture: Capture, offset: Sequence[float]) -> Capture:
    """Return the capture with all cameras shifted."""
    shift = np.column_stack([np.zeros((3, 3)), offset])
    frames = [replace(f, camera_to_world=to_rows(np.array(f.camera_to_world) + shift)) for f in capture.frames]
    return replace(capture, frames=tuple(frames))


def _capture(eyes: Sequence[np.ndarray], targets: Sequence[np.ndarray], segments: Sequence[str]) -> Capture:
    poses = look_at(torch.from_numpy(np.array(eyes)), torch.from_numpy(np.array(targets))).numpy()
    frames = tuple(
        Frame(
            name=f"{i:03d}.jpg", image=f"{i:03d}.jpg", intrinsics=LENS, camera_to_world=to_rows(pose),
            segment=segment, camera="front", timestamp=float(i),
        )
        for i, (pose, segment) in enumerate(zip(poses, segments, strict=True))
    )  # fmt: skip
    return Capture(image_dir=Path("images"), frames=frames, is_metric=True, source="a test")
