"""Conversion of a page's camera to one that can be rendered, and back."""

import math
from dataclasses import replace

import pytest
import torch

from blocknerf.cameras import look_at
from viewer.client_camera import MAX_SIZE, ClientCamera, field_of_view, quaternion

CAMERA = ClientCamera(
    position=(1.0, 2.0, 3.0), wxyz=(1.0, 0.0, 0.0, 0.0), fov=math.radians(60.0), width=1280, height=720
)


def test_round_trip() -> None:
    pose = look_at(torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[4.0, 5.0, 2.0]]))[0]
    camera = CAMERA.camera(360)
    assert camera is not None
    rotated = replace(CAMERA, wxyz=quaternion(replace(camera, camera_to_world=pose[None]))).camera(360)
    assert rotated is not None
    torch.testing.assert_close(rotated.camera_to_world[0, :, :3], pose[:, :3])
    assert rotated.centers[0].tolist() == [1.0, 2.0, 3.0]
    assert field_of_view(rotated) == pytest.approx(math.radians(60.0))


@pytest.mark.parametrize(
    ("canvas", "size"),
    [
        ((1280, 720), (640, 360)),
        ((390, 844), (166, 360)),
        ((3000, 500), (720, 120)),
        ((200, 100), (200, 100)),
        ((0, -5), (1, 1)),
    ],
)
def test_the_size_respects_the_resolution_and_the_canvas_aspect(canvas: tuple[int, int], size: tuple[int, int]) -> None:
    camera = replace(CAMERA, width=canvas[0], height=canvas[1]).camera(360)
    assert camera is not None
    assert (int(camera.width[0]), int(camera.height[0])) == size


@pytest.mark.parametrize(
    "invalid",
    [{"position": (math.nan, 0.0, 0.0)}, {"wxyz": (0.0, 0.0, 0.0, 0.0)}, {"fov": math.inf}],
)
def test_invalid_values_have_no_camera(invalid: dict) -> None:
    assert replace(CAMERA, **invalid).camera(360) is None


def test_size_and_field_of_view_are_bounded() -> None:
    camera = replace(CAMERA, width=10**9, height=10**9, fov=1e-9).camera(10**9)
    assert camera is not None
    assert int(camera.width[0]) <= MAX_SIZE
    assert field_of_view(camera) == pytest.approx(math.radians(5.0), rel=1e-3)
