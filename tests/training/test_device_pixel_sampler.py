"""Pixels drawn on a device: those of the photographs, never a masked one, in shapes that never change."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.training.device_pixel_sampler import DevicePixelSampler
from blocknerf.training.image_cache import ROTATE_STEPS
from blocknerf.training.pixel_sampler import MAX_REDRAWS, PixelBatch

BYTES = 24 * 16 * 3


def source(capture: Capture, device: str = "cpu", **choices: Any) -> DevicePixelSampler:
    settings = {
        "downscale": 1,
        "budget_bytes": 1 << 24,
        "seed": 0,
        "use_depth": capture.sparse_points is not None,
        **choices,
    }
    return DevicePixelSampler(capture, range(len(capture)), device=device, **settings)


def drawn(pixels: DevicePixelSampler, step: int, rays: int, depth_rays: int = 0) -> PixelBatch:
    pixels.prefetch(step)
    return pixels.draw(torch.Generator().manual_seed(step), rays, depth_rays)


def shown(capture: Capture, batch: PixelBatch, downscale: int = 1) -> torch.Tensor:
    """The colors that the photographs have at a batch's pixels."""
    pictures = [torch.from_numpy(capture.read_image(index, downscale)) / 255.0 for index in range(len(capture))]
    places = zip(batch.frames.tolist(), batch.pixels.tolist(), strict=True)
    return torch.stack([pictures[frame][int(y), int(x)] for frame, (x, y) in places])


@pytest.fixture
def measured(ball: Any, tmp_path: Any) -> Capture:
    """The masked photographs, with points on the ball."""
    for name in ("images", "clean", "masks"):
        (tmp_path / name).symlink_to(ball.masked.image_dir / name, target_is_directory=True)
    directions = np.random.default_rng(0).normal(size=(3000, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    return dataclasses.replace(ball.masked, image_dir=tmp_path, sparse_points="points.ply")


@pytest.mark.parametrize("downscale", [1, 2, 3])
def test_colors_are_those_of_the_photographs(ball: Any, downscale: int) -> None:
    batch = drawn(source(ball.clean, downscale=downscale), 0, 300)
    assert torch.equal(batch.colors, shown(ball.clean, batch, downscale))
    assert (len(batch.depths), len(batch.sky)) == (0, 0)


def test_pixels_are_centers_inside_the_picture_and_cover_it(ball: Any) -> None:
    batch = drawn(source(ball.clean), 0, 20_000)
    assert torch.equal(batch.pixels % 1.0, torch.full((20_000, 2), 0.5))
    assert batch.pixels.amin(0).tolist() == [0.5, 0.5]
    assert batch.pixels.amax(0).tolist() == [23.5, 15.5]
    counts = torch.bincount(batch.frames, minlength=len(ball.clean))
    assert (counts / 20_000 - 1.0 / len(ball.clean)).abs().max() < 0.01


def test_masked_pixels_are_never_drawn_and_no_ray_is_given_up(ball: Any) -> None:
    batch = drawn(source(ball.masked), 0, 4000)
    usable = [ball.masked.read_mask(index) for index in range(len(ball.masked))]
    places = zip(batch.frames.tolist(), batch.pixels.tolist(), strict=True)
    assert all(usable[frame][int(y), int(x)] for frame, (x, y) in places)
    assert len(batch.frames) == 4000


def test_the_spare_pixel_stands_in_where_all_draws_are_masked(ball: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly_all = np.zeros((16, 24), np.bool_)
    nearly_all[3, 7] = nearly_all[9, 2] = nearly_all[12, 20] = True
    monkeypatch.setattr(Capture, "read_mask", lambda *_: nearly_all)
    batch = drawn(source(ball.masked), 0, 400)
    share = float((batch.pixels == torch.tensor([2.5, 9.5])).all(-1).float().mean())
    assert {tuple(place) for place in batch.pixels.tolist()} == {(7.5, 3.5), (2.5, 9.5), (20.5, 12.5)}
    assert share > (1.0 - 3.0 / 384) ** (1 + MAX_REDRAWS) - 0.05


def test_a_step_gives_its_pixels_whatever_came_before(ball: Any) -> None:
    for budget in (1 << 24, 3 * BYTES):
        walked, fresh = source(ball.clean, budget_bytes=budget), source(ball.clean, budget_bytes=budget)
        for step in (0, 99, 130, 701):
            drawn(walked, step, 16)
        one, other = drawn(walked, 450, 200), drawn(fresh, 450, 200)
        for field in dataclasses.fields(PixelBatch):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name))


def test_the_window_moves_within_the_same_memory(ball: Any) -> None:
    pixels = source(ball.clean, budget_bytes=3 * BYTES)
    pixels.prefetch(0)
    places = [value.data_ptr() for value in vars(pixels).values() if isinstance(value, torch.Tensor)]
    colors, seen = pixels._cache.colors.data_ptr(), set()
    for turn in range(len(ball.clean)):
        batch = drawn(pixels, turn * ROTATE_STEPS, 60)
        assert len(set(batch.frames.tolist())) <= 3
        assert torch.equal(batch.colors, shown(ball.clean, batch))
        seen |= set(batch.frames.tolist())
    assert seen == set(range(len(ball.clean)))
    assert places == [value.data_ptr() for value in vars(pixels).values() if isinstance(value, torch.Tensor)]
    assert colors == pixels._cache.colors.data_ptr()


def test_the_first_rays_go_through_measured_points(measured: Capture) -> None:
    pixels = source(measured)
    batch = drawn(pixels, 0, 400, 100)
    assert (len(batch.depths), len(batch.frames)) == (100, 400)
    assert (batch.depths > 0.0).all()
    assert torch.equal(batch.colors, shown(measured, batch))
    rays = pixels.cameras.rays(batch.frames[:100], batch.pixels[:100])
    ends = rays.origins + batch.depths[:, None] * rays.directions
    assert torch.allclose(ends.norm(dim=-1), torch.ones(100), atol=1e-3)


def test_a_point_that_has_left_the_picture_gives_its_ray_to_an_ordinary_pixel(measured: Capture) -> None:
    pixels = source(measured)
    pixels.prefetch(0)
    away = pixels.input_cameras.camera_to_world.clone()
    away[:8, :, :3] *= -1.0  # half of the cameras look away
    held = pixels.cameras.camera_to_world.data_ptr()
    pixels.set_cameras(dataclasses.replace(pixels.input_cameras, camera_to_world=away))
    assert pixels.cameras.camera_to_world.data_ptr() == held
    assert not torch.equal(pixels.input_cameras.camera_to_world, away)
    batch = drawn(pixels, 0, 400, 200)
    lost = batch.depths == 0.0
    assert (batch.frames[:200] < 8)[lost].float().mean() > 0.4  # such a ray goes to any photograph
    assert (batch.frames[:200][~lost] >= 8).all()
    assert torch.equal(batch.colors, shown(measured, batch))
    assert 60 < int(lost.sum()) < 140


def test_without_points_in_the_window_no_depth_is_measured(measured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Cameras, "project", lambda self, points, *_: (points[:, :2], points[:, 2], torch.zeros(len(points)).bool())
    )
    batch = drawn(source(measured), 0, 50, 20)
    assert torch.equal(batch.depths, torch.zeros(20))
    assert torch.equal(batch.colors, shown(measured, batch))


def test_sky_is_known_where_masks_show_it(ball: Any) -> None:
    frames = tuple(
        dataclasses.replace(frame, mask=None, sky_mask=frame.mask if i else None)
        for i, frame in enumerate(ball.masked.frames)
    )
    capture = dataclasses.replace(ball.masked, frames=frames)
    batch = drawn(source(capture), 0, 2000)
    white = [capture.read_sky_mask(index) for index in range(len(capture))]
    for frame, (x, y), sky in zip(batch.frames.tolist(), batch.pixels.tolist(), batch.sky.tolist(), strict=True):
        assert sky == (int(white[frame][int(y), int(x)]) if frame else -1)


@pytest.mark.parametrize("what", ["masked", "measured"])
def test_nothing_that_is_drawn_is_looked_at(what: str, ball: Any, measured: Capture) -> None:
    """On no device there is nothing to look at; on a GPU it would have to be waited for."""
    capture = measured if what == "measured" else ball.masked
    pixels = source(capture, device="meta")
    batch = drawn(pixels, 0, 64, 16)
    assert batch.colors.shape == (64, 3)
    assert {getattr(batch, field.name).device.type for field in dataclasses.fields(batch)} == {"meta"}


def test_all_is_made_where_the_photographs_are(measured: Capture) -> None:
    pixels = source(measured)
    pixels.prefetch(0)
    with torch.device("meta"):
        batch = drawn(pixels, 0, 64, 16)
    assert {getattr(batch, field.name).device.type for field in dataclasses.fields(batch)} == {"cpu"}
