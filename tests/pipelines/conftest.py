"""A run with exact scenes as blocks, so that everything after training is tested without training."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, look_at
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import write_capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city import cache, renderer
from blocknerf.city.cache import load_alignments
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import write_block_frames
from blocknerf.fields.checkpoint import save_field
from blocknerf.files import format_json, write_atomic
from blocknerf.images import to_uint8, write_image
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import FrameAssignment
from blocknerf.partitioning.report import coverage, write_coverage
from blocknerf.rendering.image import render_image
from pipelines import evaluate as evaluate_job
from pipelines import render as render_job
from pipelines import video_job
from pipelines.evaluate import evaluate
from tests.fields.conftest import make_field

FRAMES, WIDTH, HEIGHT = 18, 40, 24
SMALL: dict[str, Any] = {"frames": 6, "width": 20, "threads": 1}
"""Options of a small video."""


class Balls:
    """A row of opaque balls under a plain sky; the appearance code is added to red, green and blue."""

    appearance_dim, near, far, linear_until = 3, 0.05, 60.0, 10.0
    num_samples = (32, 16)
    centers = torch.tensor([[float(x), 5.0, 0.4 * (x % 3)] for x in range(-6, 28, 3)])

    @property
    def proposal_density_fns(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        return [lambda points, footprints: self.density(points, footprints)[0]]

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        distance = torch.cdist(points.reshape(-1, 3), self.centers).amin(-1).view(points.shape[:-1])
        return 30.0 * torch.sigmoid((1.2 - distance) / 0.1), points

    def color(self, features: Tensor, directions: Tensor, code: Tensor) -> Tensor:
        return 0.5 + 0.25 * torch.sin(1.5 * features) + code[:, None, :]

    def sky(self, directions: Tensor, code: Tensor) -> Tensor:
        return 0.5 + 0.2 * directions + code

    def expose(self, color: Tensor, exposure: Tensor) -> Tensor:
        return color * exposure[:, None]

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        return torch.ones(points.shape[:-1])


def appearance_code(frame: int) -> Tensor:
    """Return the appearance code of an image; all images differ."""
    return 0.1 * torch.sin(torch.tensor([1.0, 2.0, 3.0]) * frame)


def _capture(root: Path) -> Capture:
    eyes = torch.tensor([[float(i), 0.0, 0.0] for i in range(FRAMES)])
    cameras = Cameras.pinhole(
        look_at(eyes, eyes + torch.tensor([0.3, 1.0, 0.1])), focal=25.0, width=WIDTH, height=HEIGHT
    )
    intrinsics = Intrinsics(width=WIDTH, height=HEIGHT, fx=25.0, fy=25.0, cx=WIDTH / 2, cy=HEIGHT / 2)
    frames = []
    for i in range(FRAMES):
        rendering = render_image(Balls(), cameras.generate_rays(i), appearance_code(i), 1.0)
        write_image(root / f"photo{i:02d}.png", to_uint8(rendering.color))
        pose = tuple(tuple(row) for row in cameras.camera_to_world[i].tolist())
        frames.append(
            Frame(
                name=f"photo{i:02d}.png", image=f"photo{i:02d}.png", intrinsics=intrinsics, camera_to_world=pose,
                segment="drive", camera="front", timestamp=float(i),
            )
        )  # fmt: skip
    return Capture(image_dir=root, frames=tuple(frames), is_metric=True, source="a row of balls <script>")


@pytest.fixture(scope="session")
def balls_capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """Images of the balls, each with its own appearance, from a straight drive of 17 m."""
    return _capture(tmp_path_factory.mktemp("balls"))


@pytest.fixture
def exact_run(tmp_path: Path, balls_capture: Capture, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A partitioned run of three perfectly trained blocks; every 4th image is held out."""
    _replace_fields(monkeypatch)
    return _make_run(tmp_path / "run", balls_capture)


@pytest.fixture(scope="session")
def small_video(tmp_path_factory: pytest.TempPathFactory, balls_capture: Capture) -> RunFolder:
    """The exact run with a small video; tests use copies of it."""
    folder = _make_run(tmp_path_factory.mktemp("small_video") / "run", balls_capture)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _replace_fields(monkeypatch)
        render_job.render(folder.path, **SMALL)
    return folder


@pytest.fixture
def rendered_run(tmp_path: Path, small_video: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The exact run with a small video. The relative paths to its images hold, too, since all folders are siblings."""
    _replace_fields(monkeypatch)
    shutil.copytree(small_video.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, balls_capture: Capture) -> RunFolder:
    """A run with logs, a video and metrics: all that a report can show. Tests share it and must not change it."""
    folder = _make_run(tmp_path_factory.mktemp("finished") / "run", balls_capture)
    for block in ("b000", "b001", "b002"):
        _write_log(folder.log(block))
    write_image(folder.map, np.full((60, 80, 3), 200, np.uint8))
    with pytest.MonkeyPatch.context() as monkeypatch:
        _replace_fields(monkeypatch)
        render_job.render(folder.path, frames=4, width=20, save_depth=True, threads=1)
        evaluate(folder.path, max_frames=2, threads=1)
    return folder


def _make_run(path: Path, capture: Capture) -> RunFolder:
    folder = RunFolder(path)
    blocks = tuple(Block(name=f"b{i:03d}", origin=(8.5 * i, 0.0, 0.0), radius=8.5) for i in range(3))
    city = City(blocks=blocks, test_every=4)
    path.mkdir()
    write_capture(capture, folder.capture)
    write_city(city, folder.city)
    members = [_member(city, block, capture) for block in blocks]
    write_block_frames(folder, members, capture, city)
    for seed, member in enumerate(members):
        retrain(folder, member.block, seed)
        record = {"config": {"downscale": 1}, "seconds": 61.0, "frames": len(member.frames), "device": "cpu"}
        record |= {"psnr": 30.0, "versions": {"blocknerf": "1.0"}}
        write_atomic(folder.train_summary(member.block), format_json(record))
    write_coverage(coverage(capture, blocks, members), folder.coverage, {})
    return folder


def retrain(folder: RunFolder, block: str, seed: int) -> None:
    """Replace the field of a block."""
    save_field(make_field(seed), folder.field(block), step=1, city=read_city(folder.city).digest)


def _member(city: City, block: Block, capture: Capture) -> FrameAssignment:
    inside = block.contains(capture.cameras().centers).nonzero()[:, 0].tolist()
    held_out = tuple(i for i in inside if city.is_test_frame(i))
    training = tuple(i for i in inside if i not in held_out)
    return FrameAssignment(
        block=block.name, frames=training, reasons=("position",) * len(training), test_frames=held_out
    )


def _write_log(path: Path) -> None:
    """Write a training log with a partial last line."""
    rows = [
        {"step": 25 * i, "loss": 0.1 / i, "psnr": 15 + 3 * math.log(i), "rays_per_second": 16e3, "seconds": 2.0 * i}
        for i in range(1, 41)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 10')


def _replace_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every job load exact scenes as blocks."""

    def open_exact(
        run: RunFolder, city: City, device: object = "cpu", *, sharp: bool = False
    ) -> Callable[[str], cache.LoadedBlock]:
        alignment_of = load_alignments(run)
        return lambda name: cache.LoadedBlock(field=Balls(), alignment=alignment_of(name))

    for module in (renderer, render_job, evaluate_job, video_job):
        monkeypatch.setattr(module, "block_loader", open_exact)


@pytest.fixture
def count_renderings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with every rendering of the city."""
    calls: list[int] = []
    original = renderer.CityRenderer.render

    def counted(self: renderer.CityRenderer, cameras: Cameras, index: int = 0, **options: object) -> object:
        calls.append(index)
        return original(self, cameras, index, **options)

    monkeypatch.setattr(renderer.CityRenderer, "render", counted)
    return calls
