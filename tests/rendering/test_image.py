"""Rendering of whole images: tiling, and visibility from the training cameras."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle, look_at
from blocknerf.rendering import image
from blocknerf.rendering.image import Rendering, predict_visibility, render_image
from blocknerf.rendering.protocol import SupportsMarching

MakeScene = Callable[..., Any]
RED = (0.9, 0.1, 0.1)
NO_CODE = torch.zeros(3)


def view(eye_x: float, target_x: float, width: int = 13, height: int = 7) -> Cameras:
    """Return a camera on the x axis that looks along it."""
    pose = look_at(torch.tensor([[eye_x, 0.0, 0.0]]), torch.tensor([[target_x, 0.0, 0.0]]))
    return Cameras.pinhole(pose, focal=10.0, width=width, height=height)


def channels(rendering: Rendering) -> list[Tensor]:
    return [rendering.color, rendering.depth[..., None], rendering.opacity[..., None]]


@pytest.mark.parametrize("tile", [1, 7, 90, 91, 92])
def test_tiling_does_not_change_the_rendering(slabs: MakeScene, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    scene = slabs([(4.0, 6.0, 0.5, RED)], num_samples=(32, 16))
    whole = render_image(scene, view(0.0, 1.0).generate_rays(0), NO_CODE, 1.0)
    monkeypatch.setattr(image, "CHUNK", {"cpu": tile})
    tiled = render_image(scene, view(0.0, 1.0).generate_rays(0), NO_CODE, 1.0)
    for first, second in zip(channels(whole), channels(tiled), strict=True):
        assert first.shape[:2] == (7, 13)
        assert torch.allclose(first, second, atol=1e-6)


def test_an_image_of_one_pixel(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 6.0, 0.5, RED)])
    rendering = render_image(scene, view(0.0, 1.0, width=1, height=1).generate_rays(0), NO_CODE, 1.0)
    color, opacity, depth = scene.expected()
    assert rendering.color.shape == (1, 1, 3)
    assert torch.allclose(rendering.color[0, 0], color, atol=0.02)
    assert float(rendering.opacity[0, 0]) == pytest.approx(opacity, abs=0.02)
    assert float(rendering.depth[0, 0]) == pytest.approx(depth, rel=0.05)


def test_rows_and_columns_match_the_camera(slabs: MakeScene) -> None:
    """Depth of a wall grows toward the image border, where rays deviate from the optical axis."""
    scene = slabs([(4.0, 6.0, 50.0, RED)])
    camera = view(0.0, 1.0)
    rendering = render_image(scene, camera.generate_rays(0), NO_CODE, 1.0)
    cosines = camera.generate_rays(0).directions[..., 0]
    assert torch.allclose(rendering.depth * cosines, torch.full((7, 13), 4.0), atol=0.5)


def test_the_camera_index_selects_the_view(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 6.0, 50.0, RED)])
    poses = torch.cat([view(0.0, direction).camera_to_world for direction in (1.0, -1.0)])
    cameras = Cameras.pinhole(poses, focal=10.0, width=13, height=7)
    toward, away = (render_image(scene, cameras.generate_rays(index), NO_CODE, 1.0).opacity.mean() for index in (0, 1))
    assert float(toward) > 0.99
    assert float(away) == 0.0


def test_colors_are_clamped_to_display_values(slabs: MakeScene) -> None:
    rendering = render_image(slabs([(4.0, 6.0, 0.5, RED)]), view(0.0, 1.0).generate_rays(0), NO_CODE, 10.0)
    assert float(rendering.color.max()) == 1.0
    assert not rendering.color.requires_grad


def test_march_is_used_unless_it_is_off(slabs: MakeScene) -> None:
    class Marching(slabs):
        def march(self, rays: RayBundle, code: Tensor, exposure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            distances = rays.directions[:, 0] + code[:, 0]
            return rays.directions.abs() * exposure[:, None], distances, torch.ones(len(rays))

    scene, code = Marching([(4.0, 6.0, 50.0, RED)]), torch.full((3,), 0.25)
    assert isinstance(scene, SupportsMarching)
    marched = render_image(scene, view(0.0, 1.0).generate_rays(0), code, 0.5)
    assert scene.evaluated == []
    directions = view(0.0, 1.0).generate_rays(0).directions
    torch.testing.assert_close(marched.color, 0.5 * directions.abs())
    torch.testing.assert_close(marched.depth, directions[..., 0] + 0.25)
    generic = render_image(scene, view(0.0, 1.0).generate_rays(0), code, 0.5, use_march=False)
    assert sum(scene.evaluated) == 7 * 13 * scene.num_samples[-1]
    assert torch.equal(
        generic.color, render_image(slabs(scene.layers), view(0.0, 1.0).generate_rays(0), code, 0.5).color
    )


def test_a_wall_is_visible_from_the_side_of_the_training_cameras(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 5.0, 50.0, RED)])
    front = predict_visibility(scene, view(0.0, 1.0))
    back = predict_visibility(scene, view(9.0, 8.0))
    sky = predict_visibility(scene, view(0.0, -1.0))
    assert front.shape == (7, 13)
    assert float(front.min()) > 0.9
    assert float(back.max()) < 0.1
    assert float(sky.max()) == 0.0


def test_visibility_never_evaluates_the_main_field(slabs: MakeScene) -> None:
    scene = slabs([(4.0, 5.0, 50.0, RED)])
    predict_visibility(scene, view(0.0, 1.0))
    assert scene.evaluated == []
