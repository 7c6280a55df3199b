"""Pixel sampling: colors, masks, measured depths, and a window of cached images that advances over all frames.

Most tests run twice: as on the CPU, and with the fixed shapes of a GPU.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.capture.lidar import LidarSweep
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.capture.rigid import PivotTransform
from blocknerf.errors import TrainingError
from blocknerf.images import write_image
from blocknerf.training import image_cache as module
from blocknerf.training.image_cache import ROTATE_STEPS
from blocknerf.training.pixel_sampler import MAX_REDRAWS, PixelBatch, PixelSampler

BYTES = 24 * 16 * 3
MakeSampler = Callable[..., PixelSampler]


class Sampler(PixelSampler):
    """Seeds the generator with seed and step, as the trainer does."""

    def batch(self, step: int, rays: int, depth_rays: int, generator: torch.Generator | None = None) -> PixelBatch:
        return super().batch(
            step, rays, depth_rays, generator or torch.Generator().manual_seed(1_000 * self.seed + step)
        )


def sampler_of(capture: Capture, **options: Any) -> PixelSampler:
    defaults = {"downscale": 1, "budget_bytes": 1 << 24, "seed": 0, "use_depth": capture.sparse_points is not None}
    return Sampler(capture, range(len(capture)), **defaults | options)


@pytest.fixture(params=[False, True], ids=["any shapes", "fixed shapes"])
def make_sampler(request: pytest.FixtureRequest) -> MakeSampler:
    return partial(sampler_of, fixed_shapes=request.param)


def image_colors(capture: Capture, batch: PixelBatch, downscale: int = 1) -> torch.Tensor:
    """Return the image colors at a batch's pixels."""
    images = [capture.read_image(index, downscale) for index in range(len(capture))]
    return torch.stack(
        [
            torch.from_numpy(images[frame][int(y), int(x)]) / 255.0
            for frame, (x, y) in zip(batch.frames.tolist(), batch.pixels.tolist(), strict=True)
        ]
    )


def tensors(sampler: PixelSampler) -> list[torch.Tensor]:
    values = [*vars(sampler).values(), *vars(sampler._cache).values(), sampler.cameras.camera_to_world]
    return [value for value in values if isinstance(value, torch.Tensor)]


def equal(a: PixelBatch, b: PixelBatch) -> bool:
    return all(torch.equal(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(PixelBatch))


@pytest.mark.parametrize("downscale", [1, 2, 3])
def test_colors_match_the_images(make_sampler: MakeSampler, ball: Any, downscale: int) -> None:
    batch = make_sampler(ball.clean, downscale=downscale).batch(0, 300, 0)
    assert batch.colors.shape == (300, 3)
    assert torch.equal(batch.colors, image_colors(ball.clean, batch, downscale))
    assert len(batch.depths) == 0


def test_pixels_are_pixel_centers_and_cover_the_image(make_sampler: MakeSampler, ball: Any) -> None:
    batch = make_sampler(ball.clean).batch(0, 20_000, 0)
    assert torch.equal(batch.pixels % 1.0, torch.full((20_000, 2), 0.5))
    assert batch.pixels.amin(0).tolist() == [0.5, 0.5]
    assert batch.pixels.amax(0).tolist() == [23.5, 15.5]
    assert len(torch.unique(batch.frames)) == len(ball.clean)


def test_cameras_match_the_downscaled_images(make_sampler: MakeSampler, ball: Any) -> None:
    cameras = make_sampler(ball.clean, downscale=2).cameras
    assert (cameras.width.tolist()[0], cameras.height.tolist()[0]) == (12, 8)
    assert torch.allclose(cameras.intrinsics, 0.5 * ball.clean.cameras().intrinsics)


def test_masked_pixels_are_never_drawn(make_sampler: MakeSampler, ball: Any) -> None:
    batch = make_sampler(ball.masked).batch(0, 4000, 0)
    masks = [ball.masked.read_mask(index) for index in range(len(ball.masked))]
    unmasked = [masks[f][int(y), int(x)] for f, (x, y) in zip(batch.frames, batch.pixels.tolist(), strict=True)]
    assert all(unmasked)
    assert len(batch.frames) == 4000
    batch = make_sampler(ball.unmasked).batch(0, 4000, 0)
    unmasked = [masks[f][int(y), int(x)] for f, (x, y) in zip(batch.frames, batch.pixels.tolist(), strict=True)]
    assert np.mean(unmasked) < 0.9


def test_sky_labels_match_the_sky_masks(make_sampler: MakeSampler, ball: Any) -> None:
    assert len(make_sampler(ball.clean).batch(0, 100, 0).sky) == 0
    # Uses the masks of the moving object as sky masks; the first image has none.
    frames = tuple(
        dataclasses.replace(frame, sky_mask=frame.mask if i else None) for i, frame in enumerate(ball.masked.frames)
    )
    capture = dataclasses.replace(
        ball.unmasked, frames=tuple(dataclasses.replace(frame, mask=None) for frame in frames)
    )
    batch = make_sampler(capture).batch(0, 2000, 0)
    sky_masks = [capture.read_sky_mask(index) for index in range(len(capture))]
    assert sky_masks[0] is None
    for frame, (x, y), sky in zip(batch.frames.tolist(), batch.pixels.tolist(), batch.sky.tolist(), strict=True):
        assert sky == (int(sky_masks[frame][int(y), int(x)]) if frame else -1)
    assert set(batch.sky.tolist()) == {-1, 0, 1}


def test_pixels_at_the_edge_of_the_sky_are_unlabeled(make_sampler: MakeSampler, ball: Any, tmp_path: Path) -> None:
    sky_mask = np.zeros((16, 24), np.bool_)
    sky_mask[:, :18] = True
    write_image(tmp_path / "sky.png", sky_mask.astype(np.uint8))
    frames = tuple(dataclasses.replace(frame, sky_mask="sky.png") for frame in ball.clean.frames)
    for frame in frames:
        (tmp_path / frame.image).parent.mkdir(exist_ok=True)
        (tmp_path / frame.image).symlink_to(ball.clean.image_dir / frame.image)
    batch = make_sampler(dataclasses.replace(ball.clean, image_dir=tmp_path, frames=frames), downscale=4).batch(
        0, 600, 0
    )
    labels = [1, 1, 1, 1, -1, 0]
    assert batch.sky.tolist() == [labels[int(x)] for x in batch.pixels[:, 0]]


def test_fallback_pixel_is_used_if_all_draws_are_masked(
    make_sampler: MakeSampler, ball: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((16, 24), np.bool_)
    mask[3, 7] = mask[9, 2] = mask[12, 20] = True
    monkeypatch.setattr(Capture, "read_mask", lambda *_: mask)
    batch = make_sampler(ball.masked).batch(0, 400, 0)
    fallback_fraction = float((batch.pixels == torch.tensor([2.5, 9.5])).all(-1).float().mean())
    assert {tuple(position) for position in batch.pixels.tolist()} == {(7.5, 3.5), (2.5, 9.5), (20.5, 12.5)}
    assert fallback_fraction > (1.0 - 3.0 / 384) ** (1 + MAX_REDRAWS) - 0.05


def test_mask_without_valid_pixels_is_an_error_with_the_image_name(
    make_sampler: MakeSampler, ball: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Capture, "read_mask", lambda *_: np.zeros((16, 24), np.bool_))
    with pytest.raises(TrainingError, match=r"images/\d+.png: the mask excludes all pixels; remove the frame"):
        make_sampler(ball.masked).batch(0, 10, 0)


def test_pixels_do_not_depend_on_earlier_steps(make_sampler: MakeSampler, ball: Any) -> None:
    for budget in (1 << 24, 3 * BYTES):
        used, new = make_sampler(ball.clean, budget_bytes=budget), make_sampler(ball.clean, budget_bytes=budget)
        for step in (0, 1, 99, 130, 250, 701, 260):
            used.batch(step, 16, 0)
        assert equal(used.batch(450, 200, 0), new.batch(450, 200, 0))


def test_pixels_depend_on_step_and_seed(make_sampler: MakeSampler, ball: Any) -> None:
    sampler = make_sampler(ball.clean)
    assert not equal(sampler.batch(0, 50, 0), sampler.batch(1, 50, 0))
    assert not equal(sampler.batch(0, 50, 0), make_sampler(ball.clean, seed=1).batch(0, 50, 0))


@pytest.mark.parametrize("slots", [1, 3, 5, 11])
def test_small_window_advances_over_all_frames(make_sampler: MakeSampler, ball: Any, slots: int) -> None:
    pixels = make_sampler(ball.clean, budget_bytes=slots * BYTES + 5)
    assert pixels._cache.colors.nbytes <= slots * BYTES
    pixels.prefetch(0)
    addresses = [value.data_ptr() for value in tensors(pixels)]
    drawn_frames: set[int] = set()
    for rotation in range(len(ball.clean)):
        batch = pixels.batch(rotation * ROTATE_STEPS, 60, 0)
        window = set(batch.frames.tolist())
        assert len(window) <= slots
        assert torch.equal(batch.colors, image_colors(ball.clean, batch))
        drawn_frames |= window
    assert drawn_frames == set(range(len(ball.clean)))
    assert addresses == [value.data_ptr() for value in tensors(pixels)], "CUDA graphs hold the addresses"


def test_image_is_read_once_while_it_is_in_the_window(
    make_sampler: MakeSampler, ball: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    original = Capture.read_image

    def count_reads(self: Capture, index: int, downscale: int = 1) -> np.ndarray:
        reads.append(index)
        return original(self, index, downscale)

    monkeypatch.setattr(Capture, "read_image", count_reads)
    pixels = make_sampler(ball.clean, budget_bytes=4 * BYTES)
    for step in range(0, 5 * ROTATE_STEPS, 20):
        pixels.batch(step, 8, 0)
    # Four at the start, then one for each of four rotations.
    assert len(reads) == 8


def test_image_larger_than_the_budget_is_an_error(make_sampler: MakeSampler, ball: Any) -> None:
    with pytest.raises(TrainingError, match=r"image of 384 pixels exceeds .* GiB; raise --image-cache-gb or"):
        make_sampler(ball.clean, budget_bytes=BYTES - 1)


def with_points(capture: Capture, folder: Path, count: int) -> Capture:
    """Return the capture with points on the ball."""
    directions = np.random.default_rng(0).normal(size=(count, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), folder / "points.ply")
    return dataclasses.replace(capture, image_dir=folder, sparse_points="points.ply")


@pytest.fixture
def measured(ball: Any, tmp_path: Path) -> Capture:
    for name in ("clean", "masks"):
        (tmp_path / name).symlink_to(ball.masked.image_dir / name, target_is_directory=True)
    return with_points(ball.clean, tmp_path, 3000)


def test_first_rays_have_measured_depths(make_sampler: MakeSampler, measured: Capture) -> None:
    pixels = make_sampler(measured)
    assert pixels.has_depth
    batch = pixels.batch(0, 100, 40)
    assert (len(batch.depths), len(batch.frames)) == (40, 100)
    assert torch.equal(batch.colors, image_colors(measured, batch))
    rays = pixels.cameras.rays(batch.frames[:40], batch.pixels[:40])
    ends = rays.origins + batch.depths[:, None] * rays.directions
    assert torch.allclose(ends.norm(dim=-1), torch.ones(40), atol=1e-3)
    # A camera sees the near side of the ball; at the rim, some pixels contain points of both sides.
    assert (batch.depths < 3.0).float().mean() > 0.9


def test_measured_rays_hit_their_points_after_cameras_move(make_sampler: MakeSampler, measured: Capture) -> None:
    """Refined poses change the pixel of a point, but not the point."""
    pixels = make_sampler(measured)
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.2, -0.1, 0.1), rotation=(0.0, 0.02, 0.05))
    before = pixels.batch(0, 100, 40)
    pixels.set_cameras(offset.apply(pixels.input_cameras))
    batch = pixels.batch(0, 100, 40)
    hit = batch.depths.nonzero()[:, 0]
    assert 20 < len(hit) <= 40
    assert len(batch.frames) == 100
    assert torch.equal(batch.colors, image_colors(measured, batch))
    rays = pixels.cameras.rays(batch.frames[hit], batch.pixels[hit])
    ends = rays.origins + batch.depths[hit, None] * rays.directions
    assert torch.allclose(ends.norm(dim=-1), torch.ones(len(hit)), atol=1e-3)
    assert not torch.allclose(batch.pixels[:5], before.pixels[:5], atol=0.2)


def test_measured_points_do_not_depend_on_the_poses_at_load_time(make_sampler: MakeSampler, measured: Capture) -> None:
    """Otherwise, a resumed training with refined poses would draw other points."""
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.5, -0.4, 0.3), rotation=(0.0, 0.05, 0.1))
    first, second = (make_sampler(measured) for _ in range(2))
    first.batch(0, 100, 40)
    for sampler in (first, second):
        sampler.set_cameras(offset.apply(sampler.input_cameras))
    assert equal(first.batch(1, 100, 40), second.batch(1, 100, 40))


def test_masked_points_are_not_drawn(make_sampler: MakeSampler, measured: Capture) -> None:
    frames = tuple(
        dataclasses.replace(frame, mask=frame.image.replace("clean/", "masks/")) for frame in measured.frames
    )
    batch = make_sampler(dataclasses.replace(measured, frames=frames)).batch(0, 500, 500)
    paths = [measured.image_dir / "masks" / f"{index}.png" for index in range(len(measured))]
    assert all(path.is_file() for path in paths)
    masks = [dataclasses.replace(measured, frames=frames).read_mask(index) for index in range(len(measured))]
    assert all(masks[f][int(y), int(x)] for f, (x, y) in zip(batch.frames, batch.pixels.tolist(), strict=True))


def test_memory_of_measured_depths_is_bounded(
    make_sampler: MakeSampler, measured: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_DEPTH_POINTS", 50)
    slot = BYTES + 12 * 50
    pixels = make_sampler(measured, budget_bytes=4 * slot)
    pixels.batch(0, 10, 5)
    assert pixels.slots == 4
    assert pixels._cache.depth_point_counts.tolist() == [50] * 4
    assert pixels._cache.depth_points.shape == (4, 50, 3)


def test_without_points_there_is_no_depth(make_sampler: MakeSampler, ball: Any) -> None:
    pixels = make_sampler(ball.clean, use_depth=True)
    assert not pixels.has_depth
    assert len(pixels.batch(0, 10, 5).depths) == 0


def test_ray_of_a_point_outside_the_image_uses_a_random_pixel(measured: Capture) -> None:
    pixels = sampler_of(measured, fixed_shapes=True)
    pixels.prefetch(0)
    poses = pixels.input_cameras.camera_to_world.clone()
    poses[:8, :, :3] *= -1.0  # half of the cameras look away
    address = pixels.cameras.camera_to_world.data_ptr()
    pixels.set_cameras(dataclasses.replace(pixels.input_cameras, camera_to_world=poses))
    assert pixels.cameras.camera_to_world.data_ptr() == address
    assert not torch.equal(pixels.input_cameras.camera_to_world, poses)
    batch = pixels.batch(0, 400, 200)
    unmeasured = batch.depths == 0.0
    assert (batch.frames[:200] < 8)[unmeasured].float().mean() > 0.4  # such a ray may use any image
    assert (batch.frames[:200][~unmeasured] >= 8).all()
    assert torch.equal(batch.colors, image_colors(measured, batch))
    assert 60 < int(unmeasured.sum()) < 140


def test_depths_are_zero_without_visible_points(measured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Cameras, "project", lambda self, points, *_: (points[:, :2], points[:, 2], torch.zeros(len(points)).bool())
    )
    batch = sampler_of(measured, fixed_shapes=True).batch(0, 50, 20)
    assert torch.equal(batch.depths, torch.zeros(20))
    assert torch.equal(batch.colors, image_colors(measured, batch))


@pytest.mark.parametrize("kind", ["masked", "measured"])
def test_drawing_does_not_synchronize(kind: str, ball: Any, measured: Capture) -> None:
    """The meta device has no values, so every operation that would synchronize fails."""
    capture = measured if kind == "measured" else ball.masked
    pixels = sampler_of(capture, device="meta")
    batch = pixels.batch(0, 64, 16)
    assert batch.colors.shape == (64, 3)
    assert {getattr(batch, field.name).device.type for field in dataclasses.fields(batch)} == {"meta"}


def test_batch_is_on_the_device_of_the_images(measured: Capture) -> None:
    pixels = sampler_of(measured, fixed_shapes=True)
    pixels.prefetch(0)
    with torch.device("meta"):
        batch = pixels.batch(0, 64, 16)
    assert {getattr(batch, field.name).device.type for field in dataclasses.fields(batch)} == {"cpu"}


def test_depths_are_those_of_the_sweep_of_an_image_s_moment(ball: Any, tmp_path: Path) -> None:
    """All other sweeps, and the points of the whole capture, would measure a ball at another place."""
    directions = np.random.default_rng(0).normal(size=(3000, 3))
    surface = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    np.column_stack([surface - (1.0, 2.0, 3.0), np.zeros(3000)]).astype("<f4").tofile(tmp_path / "here.bin")
    np.column_stack([0.5 * surface, np.zeros(3000)]).astype("<f4").tofile(tmp_path / "elsewhere.bin")
    sensor = ((1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 2.0), (0.0, 0.0, 1.0, 3.0))
    sweeps = [
        LidarSweep(path=path, timestamp=time, sensor_to_world=sensor)
        for path, time in (("here.bin", 100.0), ("elsewhere.bin", 100.2))
    ]
    times = [100.05, None, 99.0]  # the others have no sweep
    frames = [dataclasses.replace(f, timestamp=t) for f, t in zip(ball.clean.frames[:3], times, strict=True)]
    capture = dataclasses.replace(
        ball.clean, frames=tuple(frames), points_dir=tmp_path, lidar_sweeps=tuple(sweeps), sparse_points=None
    )
    pixels = sampler_of(capture, use_depth=True)
    batch = pixels.batch(0, 100, 40)
    assert pixels.has_depth
    assert set(batch.frames[:40].tolist()) == {0}
    rays = pixels.cameras.rays(batch.frames[:40], batch.pixels[:40])
    ends = rays.origins + batch.depths[:, None] * rays.directions
    assert torch.allclose(ends.norm(dim=-1), torch.ones(40), atol=1e-3)
