"""Trajectory: resizing, length, duration and validation."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import look_at
from blocknerf.errors import RunError
from blocknerf.trajectory.trajectory import Trajectory


@pytest.fixture
def trajectory() -> Trajectory:
    eyes = torch.tensor([[0.0, 0.0, 1.0], [3.0, 4.0, 1.0], [3.0, 4.0, 3.0]])
    poses = look_at(eyes, torch.tensor([[5.0, 9.0, 0.0]]).expand(3, 3))
    return Trajectory(camera_to_world=poses, focals=torch.tensor([80.0, 90.0, 100.0]), width=96, height=54, fps=12.0)


def test_resizing_keeps_the_vertical_field_of_view(trajectory: Trajectory) -> None:
    resized = trajectory.resized(200, 27)
    assert (resized.width, resized.height, resized.fps) == (200, 27, 12.0)
    assert torch.allclose(resized.height / resized.focals, trajectory.height / trajectory.focals)
    assert torch.equal(resized.camera_to_world, trajectory.camera_to_world)
    assert resized.cameras.intrinsics[1].tolist() == [45.0, 45.0, 100.0, 13.5]


def test_length_and_duration(trajectory: Trajectory) -> None:
    assert trajectory.length == pytest.approx(7.0)
    assert trajectory.seconds == 0.25


def with_pose_value(column: int, value: float) -> Callable[[Trajectory], dict[str, Tensor]]:
    def change(trajectory: Trajectory) -> dict[str, Tensor]:
        poses = trajectory.camera_to_world.clone()
        poses[1, 0, column] = value
        return {"camera_to_world": poses}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda trajectory: {"focals": trajectory.focals[:0], "camera_to_world": trajectory.camera_to_world[:0]},
            "it has 0 frames",
        ),
        (lambda trajectory: {"width": 0}, "its size is 0x54"),
        (lambda trajectory: {"height": -1}, "its size is 96x-1"),
        *(
            (lambda trajectory, fps=fps: {"fps": fps}, f"fps is {fps}")
            for fps in (0.0, -1.0, 1000.1, math.nan, math.inf)
        ),
        *((with_pose_value(*item), "frame 1: camera_to_world is not a finite") for item in ((0, 2.0), (3, math.nan))),
        *(
            (
                lambda trajectory, focal=focal: {"focals": trajectory.focals * torch.tensor([1.0, 1.0, focal])},
                "frame 2: focal is",
            )
            for focal in (0.0, -1.0, math.nan, math.inf)
        ),
    ],
)
def test_invalid_trajectory_is_rejected(trajectory: Trajectory, change: Callable, message: str) -> None:
    with pytest.raises(RunError, match=f"^trajectory: {message}.*; use "):
        replace(trajectory, **change(trajectory))
