"""A film's camera: what resizing keeps, and what cannot be filmed."""

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
def film() -> Trajectory:
    eyes = torch.tensor([[0.0, 0.0, 1.0], [3.0, 4.0, 1.0], [3.0, 4.0, 3.0]])
    poses = look_at(eyes, torch.tensor([[5.0, 9.0, 0.0]]).expand(3, 3))
    return Trajectory(camera_to_world=poses, focals=torch.tensor([80.0, 90.0, 100.0]), width=96, height=54, fps=12.0)


def test_another_size_keeps_the_vertical_field_of_view(film: Trajectory) -> None:
    other = film.resized(200, 27)
    assert (other.width, other.height, other.fps) == (200, 27, 12.0)
    assert torch.allclose(other.height / other.focals, film.height / film.focals)
    assert torch.equal(other.camera_to_world, film.camera_to_world)
    assert other.cameras.intrinsics[1].tolist() == [45.0, 45.0, 100.0, 13.5]


def test_length_and_time_are_those_of_the_way(film: Trajectory) -> None:
    assert film.length == pytest.approx(7.0)
    assert film.seconds == 0.25


def moved(column: int, value: float) -> Callable[[Trajectory], dict[str, Tensor]]:
    def change(film: Trajectory) -> dict[str, Tensor]:
        poses = film.camera_to_world.clone()
        poses[1, 0, column] = value
        return {"camera_to_world": poses}

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda film: {"focals": film.focals[:0], "camera_to_world": film.camera_to_world[:0]}, "it has 0 frames"),
        (lambda film: {"width": 0}, "its size is 0x54"),
        (lambda film: {"height": -1}, "its size is 96x-1"),
        *((lambda film, fps=fps: {"fps": fps}, f"fps is {fps}") for fps in (0.0, -1.0, 1000.1, math.nan, math.inf)),
        *((moved(*place), "frame 1: camera_to_world is not a finite") for place in ((0, 2.0), (3, math.nan))),
        *(
            (lambda film, focal=focal: {"focals": film.focals * torch.tensor([1.0, 1.0, focal])}, "frame 2: focal is")
            for focal in (0.0, -1.0, math.nan, math.inf)
        ),
    ],
)
def test_what_cannot_be_filmed_is_refused(film: Trajectory, change: Callable, complaint: str) -> None:
    with pytest.raises(RunError, match=f"^trajectory: {complaint}.*; give "):
        replace(film, **change(film))
