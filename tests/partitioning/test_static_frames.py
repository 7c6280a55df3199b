"""Static-frame filter: a static vehicle keeps one frame; a moving or rotating one keeps all."""

import math

import torch

from blocknerf.geometry import se3_exp
from blocknerf.partitioning.static_frames import moving_frames


def poses(*tangents: list[float]) -> torch.Tensor:
    return se3_exp(torch.tensor(tangents))


def test_static_frames_are_dropped() -> None:
    track = poses(*[[0.0] * 6] * 5, [0.5, 0, 0, 0, 0, 0], [1.2, 0, 0, 0, 0, 0], [1.3, 0, 0, 0, 0, 0])
    assert moving_frames(track, 1.0) == [0, 6]


def test_slow_motion_is_measured_from_the_last_kept_frame() -> None:
    track = poses(*[[0.4 * i, 0, 0, 0, 0, 0] for i in range(7)])
    assert moving_frames(track, 1.0) == [0, 3, 6]


def test_rotation_counts_as_motion() -> None:
    track = poses(*[[0, 0, 0, 0, 0, math.radians(angle)] for angle in (0.0, 0.5, 1.1, 1.5, 2.2)])
    assert moving_frames(track, 1.0) == [0, 2, 4]


def test_no_frame_and_one_frame() -> None:
    assert moving_frames(poses([0.0] * 6)[:0], 1.0) == []
    assert moving_frames(poses([0.0] * 6), 1.0) == [0]
