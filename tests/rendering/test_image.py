"""Whole pictures: tiles that leave no trace, and how well a view was seen in training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, look_at
from blocknerf.rendering import image
from blocknerf.rendering.image import Rendering, predict_visibility, render_image

MakeScene = Callable[..., Any]
RED = (0.9, 0.1, 0.1)
NO_CODE = torch.zeros(3)


def view(eye_x: float, target_x: float, width: int = 13, height: int = 7) -> Cameras:
    """A camera on the x axis that looks along it."""
    pose = look_at(torch.tensor([[eye_x, 0.0, 0.0]]), torch.tensor([[target_x, 0.0, 0.0]]))
    return Cameras.pinhole(pose, focal=10.0, width=width, height=height)


def parts(picture: Rendering) -> list[Tensor]:
    return [picture.color, picture.depth[..., None], picture.opacity[..., None]]


@pytest.mark.parametrize("tile", [1, 7, 90, 91, 92])
@pytest.mark.parametrize("sparse", [False, True])
def test_tiles_leave_no_trace(
    slabs: MakeScene, exactly: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tile: int, sparse: bool
) -> None:
    scene = slabs([(4.0, 6.0, 0.5, RED)], sample_counts=(32, 16))
    occupancy = exactly(scene) if sparse else None
    whole = render_image(scene, view(0.0, 1.0), 0, NO_CODE, 1.0, occupancy)
    monkeypatch.setattr(image, "TILE_RAYS", tile)
    tiled = render_image(scene, view(0.0, 1.0), 0, NO_CODE, 1.0, occupancy)
    for one, other in zip(parts(whole), parts(tiled), strict=True):
        assert one.shape[:2] == (7, 13)
        assert torch.allclose(one, other, atol=1e-6)


def test_a_picture_of_one_pixel(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 6.0, 0.5, RED)])
    picture = render_image(scene, view(0.0, 1.0, width=1, height=1), 0, NO_CODE, 1.0)
    color, opacity, depth = scene.expected()
    assert picture.color.shape == (1, 1, 3)
    assert torch.allclose(picture.color[0, 0], color, atol=0.02)
    assert float(picture.opacity[0, 0]) == pytest.approx(opacity, abs=0.02)
    assert float(picture.depth[0, 0]) == pytest.approx(depth, rel=0.05)


def test_rows_and_columns_are_the_cameras(slabs: MakeScene) -> None:
    """A wall seen from its side edge: depth grows toward the picture's rim as rays lean away from the axis."""
    scene = slabs([(4.0, 6.0, 50.0, RED)])
    camera = view(0.0, 1.0)
    picture = render_image(scene, camera, 0, NO_CODE, 1.0)
    lean = camera.image_rays(0).directions[..., 0]
    assert torch.allclose(picture.depth * lean, torch.full((7, 13), 4.0), atol=0.5)


def test_the_camera_of_that_index_is_rendered(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 6.0, 50.0, RED)])
    poses = torch.cat([view(0.0, direction).camera_to_world for direction in (1.0, -1.0)])
    cameras = Cameras.pinhole(poses, focal=10.0, width=13, height=7)
    toward, away = (render_image(scene, cameras, index, NO_CODE, 1.0).opacity.mean() for index in (0, 1))
    assert float(toward) > 0.99
    assert float(away) == 0.0


def test_colors_are_what_can_be_shown(slabs: MakeScene, everything: Callable[[], Any]) -> None:
    scene = slabs([(4.0, 6.0, 0.5, RED)])
    for occupancy in (None, everything()):
        picture = render_image(scene, view(0.0, 1.0), 0, NO_CODE, 10.0, occupancy)
        assert float(picture.color.max()) == 1.0
        assert not picture.color.requires_grad


def test_a_wall_is_visible_from_the_side_the_photographs_were_taken_from(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 5.0, 50.0, RED)])
    front = predict_visibility(scene, view(0.0, 1.0))
    back = predict_visibility(scene, view(9.0, 8.0))
    sky = predict_visibility(scene, view(0.0, -1.0))
    assert front.shape == (7, 13)
    assert float(front.min()) > 0.9
    assert float(back.max()) < 0.1
    assert float(sky.max()) == 0.0


def test_visibility_never_evaluates_the_costly_field(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 5.0, 50.0, RED)])
    predict_visibility(scene, view(0.0, 1.0))
    assert scene.evaluated == []
