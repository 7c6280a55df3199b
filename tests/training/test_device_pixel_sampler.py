"""Pixel sampling on a device: correct colors, no masked pixels, fixed shapes, no synchronization."""

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


def make_sampler(capture: Capture, device: str = "cpu", **options: Any) -> DevicePixelSampler:
    defaults = {
        "downscale": 1,
        "budget_bytes": 1 << 24,
        "seed": 0,
        "use_depth": capture.sparse_points is not None,
        **options,
    }
    return DevicePixelSampler(capture, range(len(capture)), device=device, **defaults)


def draw_batch(pixels: DevicePixelSampler, step: int, rays: int, depth_rays: int = 0) -> PixelBatch:
    pixels.prefetch(step)
    return pixels.draw(torch.Generator().manual_seed(step), rays, depth_rays)


def image_colors(capture: Capture, batch: PixelBatch, downscale: int = 1) -> torch.Tensor:
    """Return the image colors at a batch's pixels."""
    images = [torch.from_numpy(capture.read_image(index, downscale)) / 255.0 for index in range(len(capture))]
    positions = zip(batch.frames.tolist(), batch.pixels.tolist(), strict=True)
    return torch.stack([images[frame][int(y), int(x)] for frame, (x, y) in positions])


@pytest.fixture
def measured(ball: Any, tmp_path: Any) -> Capture:
    """The masked capture, with points on the ball."""
    for name in ("images", "clean", "masks"):
        (tmp_path / name).symlink_to(ball.masked.image_dir / name, target_is_directory=True)
    directions = np.random.default_rng(0).normal(size=(3000, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), tmp_path / "points.ply")
    return dataclasses.replace(ball.masked, image_dir=tmp_path, sparse_points="points.ply")


@pytest.mark.parametrize("downscale", [1, 2, 3])
def test_colors_match_the_images(ball: Any, downscale: int) -> None:
    batch = draw_batch(make_sampler(ball.clean, downscale=downscale), 0, 300)
    assert torch.equal(batch.colors, image_colors(ball.clean, batch, downscale))
    assert (len(batch.depths), len(batch.sky)) == (0, 0)


def test_pixels_are_pixel_centers_and_cover_the_image(ball: Any) -> None:
    batch = draw_batch(make_sampler(ball.clean), 0, 20_000)
    assert torch.equal(batch.pixels % 1.0, torch.full((20_000, 2), 0.5))
    assert batch.pixels.amin(0).tolist() == [0.5, 0.5]
    assert batch.pixels.amax(0).tolist() == [23.5, 15.5]
    counts = torch.bincount(batch.frames, minlength=len(ball.clean))
    assert (counts / 20_000 - 1.0 / len(ball.clean)).abs().max() < 0.01


def test_masked_pixels_are_not_drawn_and_the_batch_is_full(ball: Any) -> None:
    batch = draw_batch(make_sampler(ball.masked), 0, 4000)
    masks = [ball.masked.read_mask(index) for index in range(len(ball.masked))]
    positions = zip(batch.frames.tolist(), batch.pixels.tolist(), strict=True)
    assert all(masks[frame][int(y), int(x)] for frame, (x, y) in positions)
    assert len(batch.frames) == 4000


def test_fallback_pixel_is_used_if_all_draws_are_masked(ball: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((16, 24), np.bool_)
    mask[3, 7] = mask[9, 2] = mask[12, 20] = True
    monkeypatch.setattr(Capture, "read_mask", lambda *_: mask)
    batch = draw_batch(make_sampler(ball.masked), 0, 400)
    fallback_fraction = float((batch.pixels == torch.tensor([2.5, 9.5])).all(-1).float().mean())
    assert {tuple(position) for position in batch.pixels.tolist()} == {(7.5, 3.5), (2.5, 9.5), (20.5, 12.5)}
    assert fallback_fraction > (1.0 - 3.0 / 384) ** (1 + MAX_REDRAWS) - 0.05


def test_pixels_do_not_depend_on_earlier_steps(ball: Any) -> None:
    for budget in (1 << 24, 3 * BYTES):
        used, new = make_sampler(ball.clean, budget_bytes=budget), make_sampler(ball.clean, budget_bytes=budget)
        for step in (0, 99, 130, 701):
            draw_batch(used, step, 16)
        actual, expected = draw_batch(used, 450, 200), draw_batch(new, 450, 200)
        for field in dataclasses.fields(PixelBatch):
            assert torch.equal(getattr(actual, field.name), getattr(expected, field.name))


def test_window_advances_in_place(ball: Any) -> None:
    pixels = make_sampler(ball.clean, budget_bytes=3 * BYTES)
    pixels.prefetch(0)
    addresses = [value.data_ptr() for value in vars(pixels).values() if isinstance(value, torch.Tensor)]
    colors, drawn_frames = pixels._cache.colors.data_ptr(), set()
    for rotation in range(len(ball.clean)):
        batch = draw_batch(pixels, rotation * ROTATE_STEPS, 60)
        assert len(set(batch.frames.tolist())) <= 3
        assert torch.equal(batch.colors, image_colors(ball.clean, batch))
        drawn_frames |= set(batch.frames.tolist())
    assert drawn_frames == set(range(len(ball.clean)))
    assert addresses == [value.data_ptr() for value in vars(pixels).values() if isinstance(value, torch.Tensor)]
    assert colors == pixels._cache.colors.data_ptr()


def test_first_rays_go_through_measured_points(measured: Capture) -> None:
    pixels = make_sampler(measured)
    batch = draw_batch(pixels, 0, 400, 100)
    assert (len(batch.depths), len(batch.frames)) == (100, 400)
    assert (batch.depths > 0.0).all()
    assert torch.equal(batch.colors, image_colors(measured, batch))
    rays = pixels.cameras.rays(batch.frames[:100], batch.pixels[:100])
    ends = rays.origins + batch.depths[:, None] * rays.directions
    assert torch.allclose(ends.norm(dim=-1), torch.ones(100), atol=1e-3)


def test_ray_of_a_point_outside_the_image_uses_a_random_pixel(measured: Capture) -> None:
    pixels = make_sampler(measured)
    pixels.prefetch(0)
    poses = pixels.input_cameras.camera_to_world.clone()
    poses[:8, :, :3] *= -1.0  # half of the cameras look away
    address = pixels.cameras.camera_to_world.data_ptr()
    pixels.set_cameras(dataclasses.replace(pixels.input_cameras, camera_to_world=poses))
    assert pixels.cameras.camera_to_world.data_ptr() == address
    assert not torch.equal(pixels.input_cameras.camera_to_world, poses)
    batch = draw_batch(pixels, 0, 400, 200)
    unmeasured = batch.depths == 0.0
    assert (batch.frames[:200] < 8)[unmeasured].float().mean() > 0.4  # such a ray may use any image
    assert (batch.frames[:200][~unmeasured] >= 8).all()
    assert torch.equal(batch.colors, image_colors(measured, batch))
    assert 60 < int(unmeasured.sum()) < 140


def test_depths_are_zero_without_visible_points(measured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Cameras, "project", lambda self, points, *_: (points[:, :2], points[:, 2], torch.zeros(len(points)).bool())
    )
    batch = draw_batch(make_sampler(measured), 0, 50, 20)
    assert torch.equal(batch.depths, torch.zeros(20))
    assert torch.equal(batch.colors, image_colors(measured, batch))


def test_sky_labels_match_the_sky_masks(ball: Any) -> None:
    frames = tuple(
        dataclasses.replace(frame, mask=None, sky_mask=frame.mask if i else None)
        for i, frame in enumerate(ball.masked.frames)
    )
    capture = dataclasses.replace(ball.masked, frames=frames)
    batch = draw_batch(make_sampler(capture), 0, 2000)
    sky_masks = [capture.read_sky_mask(index) for index in range(len(capture))]
    for frame, (x, y), sky in zip(batch.frames.tolist(), batch.pixels.tolist(), batch.sky.tolist(), strict=True):
        assert sky == (int(sky_masks[frame][int(y), int(x)]) if frame else -1)


@pytest.mark.parametrize("kind", ["masked", "measured"])
def test_drawing_does_not_synchronize(kind: str, ball: Any, measured: Capture) -> None:
    """The meta device has no values, so every operation that would synchronize fails."""
    capture = measured if kind == "measured" else ball.masked
    pixels = make_sampler(capture, device="meta")
    batch = draw_batch(pixels, 0, 64, 16)
    assert batch.colors.shape == (64, 3)
    assert {getattr(batch, field.name).device.type for field in dataclasses.fields(batch)} == {"meta"}


def test_batch_is_on_the_device_of_the_images(measured: Capture) -> None:
    pixels = make_sampler(measured)
    pixels.prefetch(0)
    with torch.device("meta"):
        batch = draw_batch(pixels, 0, 64, 16)
    assert {getattr(batch, field.name).device.type for field in dataclasses.fields(batch)} == {"cpu"}
