"""Random pixels: their colors, what is never drawn, and a window of memory that moves over all photographs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.capture.rigid import PivotTransform
from blocknerf.errors import TrainingError
from blocknerf.images import write_image
from blocknerf.training import image_cache as module
from blocknerf.training.image_cache import ROTATE_STEPS
from blocknerf.training.pixel_sampler import PixelBatch, PixelSampler

BYTES = 24 * 16 * 3


def source(capture: Capture, **choices: Any) -> PixelSampler:
    settings = {"downscale": 1, "budget_bytes": 1 << 24, "seed": 0, "use_depth": False, **choices}
    return PixelSampler(capture, range(len(capture)), **settings)


def shown(capture: Capture, batch: PixelBatch, downscale: int = 1) -> torch.Tensor:
    """The colors that the photographs have at a batch's pixels."""
    pictures = [capture.read_image(index, downscale) for index in range(len(capture))]
    return torch.stack(
        [
            torch.from_numpy(pictures[frame][int(y), int(x)]) / 255.0
            for frame, (x, y) in zip(batch.frames.tolist(), batch.pixels.tolist(), strict=True)
        ]
    )


def same(one: PixelBatch, other: PixelBatch) -> bool:
    return all(
        torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(PixelBatch)
    )


@pytest.mark.parametrize("downscale", [1, 2, 3])
def test_colors_are_those_of_the_photographs(ball: Any, downscale: int) -> None:
    batch = source(ball.clean, downscale=downscale).batch(0, 300, 0)
    assert batch.colors.shape == (300, 3)
    assert torch.equal(batch.colors, shown(ball.clean, batch, downscale))
    assert len(batch.depths) == 0


def test_pixels_are_centers_inside_the_picture_and_cover_it(ball: Any) -> None:
    batch = source(ball.clean).batch(0, 20_000, 0)
    assert torch.equal(batch.pixels % 1.0, torch.full((20_000, 2), 0.5))
    assert batch.pixels.amin(0).tolist() == [0.5, 0.5]
    assert batch.pixels.amax(0).tolist() == [23.5, 15.5]
    assert len(torch.unique(batch.frames)) == len(ball.clean)


def test_cameras_are_those_of_the_reduced_photographs(ball: Any) -> None:
    cameras = source(ball.clean, downscale=2).cameras
    assert (cameras.width.tolist()[0], cameras.height.tolist()[0]) == (12, 8)
    assert torch.allclose(cameras.intrinsics, 0.5 * ball.clean.cameras().intrinsics)


def test_masked_pixels_are_never_drawn(ball: Any) -> None:
    batch = source(ball.masked).batch(0, 4000, 0)
    usable = [ball.masked.read_mask(index) for index in range(len(ball.masked))]
    drawn = [usable[f][int(y), int(x)] for f, (x, y) in zip(batch.frames, batch.pixels.tolist(), strict=True)]
    assert all(drawn)
    assert len(batch.frames) > 3990
    free = source(ball.unmasked).batch(0, 4000, 0)
    drawn = [usable[f][int(y), int(x)] for f, (x, y) in zip(free.frames, free.pixels.tolist(), strict=True)]
    assert np.mean(drawn) < 0.9


def test_sky_is_known_where_masks_show_it(ball: Any) -> None:
    assert len(source(ball.clean).batch(0, 100, 0).sky) == 0
    # The masks of moving things stand in for sky masks; the first photograph has none.
    frames = tuple(
        dataclasses.replace(frame, sky_mask=frame.mask if i else None) for i, frame in enumerate(ball.masked.frames)
    )
    capture = dataclasses.replace(
        ball.unmasked, frames=tuple(dataclasses.replace(frame, mask=None) for frame in frames)
    )
    batch = source(capture).batch(0, 2000, 0)
    white = [capture.read_sky_mask(index) for index in range(len(capture))]
    assert white[0] is None
    for frame, (x, y), sky in zip(batch.frames.tolist(), batch.pixels.tolist(), batch.sky.tolist(), strict=True):
        assert sky == (int(white[frame][int(y), int(x)]) if frame else -1)
    assert set(batch.sky.tolist()) == {-1, 0, 1}


def test_the_edge_of_the_sky_is_neither_sky_nor_solid(ball: Any, tmp_path: Path) -> None:
    white = np.zeros((16, 24), np.bool_)
    white[:, :18] = True
    write_image(tmp_path / "sky.png", white.astype(np.uint8))
    frames = tuple(dataclasses.replace(frame, sky_mask="sky.png") for frame in ball.clean.frames)
    for frame in frames:
        (tmp_path / frame.image).parent.mkdir(exist_ok=True)
        (tmp_path / frame.image).symlink_to(ball.clean.image_dir / frame.image)
    batch = source(dataclasses.replace(ball.clean, image_dir=tmp_path, frames=frames), downscale=4).batch(0, 600, 0)
    known = [1, 1, 1, 1, -1, 0]
    assert batch.sky.tolist() == [known[int(x)] for x in batch.pixels[:, 0]]


def test_pixels_are_given_up_rather_than_drawn_under_a_mask(ball: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly_all = np.zeros((16, 24), np.bool_)
    nearly_all[:, 7] = True
    monkeypatch.setattr(Capture, "read_mask", lambda *_: nearly_all)
    batch = source(ball.masked).batch(0, 400, 0)
    assert torch.equal(batch.pixels[:, 0], torch.full((len(batch.frames),), 7.5))
    assert 40 < len(batch.frames) < 250


def test_a_mask_that_leaves_nothing_is_an_error_that_names_the_photograph(
    ball: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Capture, "read_mask", lambda *_: np.zeros((16, 24), np.bool_))
    with pytest.raises(TrainingError, match=r"images/\d+.png: its mask leaves no pixel; remove the frame"):
        source(ball.masked).batch(0, 10, 0)


def test_a_step_gives_its_pixels_whatever_came_before(ball: Any) -> None:
    for budget in (1 << 24, 3 * BYTES):
        walked, fresh = source(ball.clean, budget_bytes=budget), source(ball.clean, budget_bytes=budget)
        for step in (0, 1, 99, 130, 250, 701, 260):
            walked.batch(step, 16, 0)
        assert same(walked.batch(450, 200, 0), fresh.batch(450, 200, 0))


def test_steps_and_seeds_differ(ball: Any) -> None:
    first = source(ball.clean)
    assert not same(first.batch(0, 50, 0), first.batch(1, 50, 0))
    assert not same(first.batch(0, 50, 0), source(ball.clean, seed=1).batch(0, 50, 0))


@pytest.mark.parametrize("slots", [1, 3, 5, 11])
def test_a_small_window_moves_over_all_photographs(ball: Any, slots: int) -> None:
    pixels = source(ball.clean, budget_bytes=slots * BYTES + 5)
    assert pixels.colors.nbytes <= slots * BYTES
    seen: set[int] = set()
    for turn in range(len(ball.clean)):
        batch = pixels.batch(turn * ROTATE_STEPS, 60, 0)
        resident = set(batch.frames.tolist())
        assert len(resident) <= slots
        assert torch.equal(batch.colors, shown(ball.clean, batch))
        seen |= resident
    assert seen == set(range(len(ball.clean)))


def test_a_photograph_stays_while_it_is_in_the_window(ball: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = Capture.read_image

    def counted(self: Capture, index: int, downscale: int = 1) -> np.ndarray:
        reads.append(index)
        return original(self, index, downscale)

    monkeypatch.setattr(Capture, "read_image", counted)
    pixels = source(ball.clean, budget_bytes=4 * BYTES)
    for step in range(0, 5 * ROTATE_STEPS, 20):
        pixels.batch(step, 8, 0)
    # Four at the start, then one for each of four moves.
    assert len(reads) == 8


def test_a_photograph_beyond_the_budget_is_refused(ball: Any) -> None:
    with pytest.raises(TrainingError, match=r"image of 384 pixels exceeds .* GiB; raise --image-cache-gb or"):
        source(ball.clean, budget_bytes=BYTES - 1)


def with_points(capture: Capture, folder: Path, count: int) -> Capture:
    """The capture with points on the ball, colored as the first photograph of each shows them."""
    directions = np.random.default_rng(0).normal(size=(count, 3))
    positions = (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)
    write_ply(PointCloud(positions=positions), folder / "points.ply")
    return dataclasses.replace(capture, image_dir=folder, sparse_points="points.ply")


@pytest.fixture
def measured(ball: Any, tmp_path: Path) -> Capture:
    for name in ("clean", "masks"):
        (tmp_path / name).symlink_to(ball.masked.image_dir / name, target_is_directory=True)
    return with_points(ball.clean, tmp_path, 3000)


def test_the_first_rays_have_measured_depths(measured: Capture) -> None:
    pixels = source(measured, use_depth=True)
    assert pixels.has_depth
    batch = pixels.batch(0, 100, 40)
    assert (len(batch.depths), len(batch.frames)) == (40, 100)
    assert torch.equal(batch.colors, shown(measured, batch))
    rays = pixels.cameras.rays(batch.frames[:40], batch.pixels[:40])
    ends = rays.origins + batch.depths[:, None] * rays.directions
    assert torch.allclose(ends.norm(dim=-1), torch.ones(40), atol=1e-3)
    # Of the ball's two sides a camera sees the nearer; at the rim, where both share a pixel, some of the other.
    assert (batch.depths < 3.0).float().mean() > 0.9


def test_measured_rays_meet_their_points_wherever_cameras_are_moved(measured: Capture) -> None:
    """Refined poses change which pixel shows a point; the point stays."""
    pixels = source(measured, use_depth=True)
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.2, -0.1, 0.1), rotation=(0.0, 0.02, 0.05))
    before = pixels.batch(0, 100, 40)
    pixels.cameras = offset.apply(pixels.input_cameras)
    batch = pixels.batch(0, 100, 40)
    count = len(batch.depths)
    assert 20 < count <= 40
    assert torch.equal(batch.colors, shown(measured, batch))
    rays = pixels.cameras.rays(batch.frames[:count], batch.pixels[:count])
    ends = rays.origins + batch.depths[:, None] * rays.directions
    assert torch.allclose(ends.norm(dim=-1), torch.ones(count), atol=1e-3)
    assert not torch.allclose(batch.pixels[:5], before.pixels[:5], atol=0.2)


def test_what_is_measured_does_not_depend_on_where_cameras_were_when_it_was_loaded(measured: Capture) -> None:
    """Else a training with refined poses that is resumed would draw other points."""
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.5, -0.4, 0.3), rotation=(0.0, 0.05, 0.1))
    first, second = (source(measured, use_depth=True) for _ in range(2))
    first.batch(0, 100, 40)
    first.cameras = second.cameras = offset.apply(first.input_cameras)
    assert same(first.batch(1, 100, 40), second.batch(1, 100, 40))


def test_masked_points_are_not_measured(measured: Capture) -> None:
    frames = tuple(
        dataclasses.replace(frame, mask=frame.image.replace("clean/", "masks/")) for frame in measured.frames
    )
    batch = source(dataclasses.replace(measured, frames=frames), use_depth=True).batch(0, 500, 500)
    usable = [measured.image_dir / "masks" / f"{index}.png" for index in range(len(measured))]
    assert all(path.is_file() for path in usable)
    masks = [dataclasses.replace(measured, frames=frames).read_mask(index) for index in range(len(measured))]
    assert all(masks[f][int(y), int(x)] for f, (x, y) in zip(batch.frames, batch.pixels.tolist(), strict=True))


def test_measured_depths_are_bounded_in_memory(measured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DEPTH_POINTS", 50)
    slot = BYTES + 12 * 50
    pixels = source(measured, use_depth=True, budget_bytes=4 * slot)
    pixels.batch(0, 10, 5)
    assert pixels.slots == 4
    assert pixels._depth_point_counts.tolist() == [50] * 4
    assert pixels._depth_points.shape == (4, 50, 3)


def test_without_points_there_is_no_depth(ball: Any) -> None:
    pixels = source(ball.clean, use_depth=True)
    assert not pixels.has_depth
    assert len(pixels.batch(0, 10, 5).depths) == 0
