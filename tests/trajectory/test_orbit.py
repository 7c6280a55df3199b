"""Cameras around one point: finding it, and a path around it."""

import math

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, look_at
from blocknerf.trajectory.orbit import common_look_at, orbit

TARGET = torch.tensor([0.5, -0.5, 1.0])


def cameras_at(eyes: Tensor, targets: Tensor) -> Cameras:
    return Cameras.pinhole(look_at(eyes, targets), focal=40.0, width=40, height=30)


def ring(degrees: float = 180.0, height: float = 2.0, count: int = 12) -> Tensor:
    """Return positions on a circle of radius 5 around the origin."""
    angles = torch.linspace(0.0, math.radians(degrees), count)
    return torch.stack([5.0 * angles.cos(), 5.0 * angles.sin(), torch.full_like(angles, height)], -1)


def test_cameras_around_an_object_look_at_it() -> None:
    cameras = cameras_at(ring(), TARGET.expand(12, 3))
    point = common_look_at(cameras)
    assert point is not None
    assert torch.allclose(point, TARGET, atol=1e-4)


@pytest.mark.parametrize(
    "cameras",
    [
        cameras_at(ring(), torch.tensor([0.0, 0.0, 500.0]).expand(12, 3)),
        cameras_at(ring(), 2.0 * ring()),
        cameras_at(9.0 * torch.eye(3)[[0, 0, 0]] * torch.arange(3.0)[:, None], torch.tensor([[999.0, 0.0, 0.0]] * 3)),
        cameras_at(ring(height=30.0), ring(height=0.0)),
    ],
    ids=["upward", "outward", "along a street", "down from the air"],
)
def test_other_cameras_look_at_no_object(cameras: Cameras) -> None:
    assert common_look_at(cameras) is None


def test_an_orbit_is_a_circle_that_looks_at_the_target() -> None:
    eyes = ring(300.0, height=3.0)
    eyes[3, 2], eyes[5] = 9.0, eyes[5] * 3.0  # Median height and distance ignore them.
    path = orbit(cameras_at(eyes + TARGET, TARGET.expand(12, 3)), TARGET, focal=50.0, frames=24, width=64, height=48)
    centers, forwards = path.camera_to_world[:, :, 3], path.camera_to_world[:, :, 2]
    offsets = centers - TARGET
    torch.testing.assert_close(centers[0], eyes[0] + TARGET)
    torch.testing.assert_close(offsets[:, :2].norm(dim=-1), torch.full((24,), 5.0))
    torch.testing.assert_close(offsets[:, 2], torch.full((24,), 3.0))
    torch.testing.assert_close(forwards, -torch.nn.functional.normalize(offsets, dim=-1))
    steps = (centers - centers.roll(1, 0)).norm(dim=-1)
    torch.testing.assert_close(steps, torch.full((24,), 10.0 * math.sin(math.pi / 24)))
