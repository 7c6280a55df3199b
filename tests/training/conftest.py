"""A synthetic capture of a ball, and a field small enough to train on it in seconds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, look_at
from blocknerf.capture.capture import Capture
from blocknerf.capture.transforms import read_transforms
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.images import to_uint8, write_image
from blocknerf.metrics import psnr
from blocknerf.rendering.image import render_image
from blocknerf.training.config import TrainConfig
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.trainer import Trainer

FRAMES, WIDTH, HEIGHT, FOCAL = 16, 24, 16, 20.0
TEST_FRAMES = (3, 8, 13)
TRAIN_FRAMES = tuple(index for index in range(FRAMES) if index not in TEST_FRAMES)
MAGENTA = (230, 30, 200)


class Ball:
    """Field of a patterned ball of radius one; the sky is brighter at the top."""

    appearance_dim, near, far, linear_until = 3, 0.1, 50.0, 4.0
    num_samples = (128, 64)

    @property
    def proposal_density_fns(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        return [lambda points, footprints: self.density(points, footprints)[0]]

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        return 40.0 * torch.sigmoid((1.0 - points.norm(dim=-1)) / 0.02), points

    def color(self, features: Tensor, directions: Tensor, code: Tensor) -> Tensor:
        return 0.5 + 0.4 * torch.sin(2.5 * features + torch.tensor([0.0, 1.0, 2.0]))

    def sky(self, directions: Tensor, code: Tensor) -> Tensor:
        return 0.5 + directions[:, 2:] * torch.tensor([0.6, 0.5, 0.2])

    def expose(self, color: Tensor, exposure: Tensor) -> Tensor:
        return color

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        return torch.ones(points.shape[:-1])


def cameras_around_ball() -> Cameras:
    """Return cameras around the ball at alternating heights that look at its center."""
    angles = torch.arange(FRAMES) * (2 * torch.pi / FRAMES)
    heights = 0.8 * (torch.arange(FRAMES) % 3 - 1.0)
    eyes = torch.stack([3.0 * angles.cos(), 3.0 * angles.sin(), heights], -1)
    return Cameras.pinhole(look_at(eyes, torch.zeros(FRAMES, 3)), focal=FOCAL, width=WIDTH, height=HEIGHT)


def write_ball_capture(folder: Path) -> Capture:
    """Write images, masks and `transforms.json`; a magenta object moves through the images and is masked."""
    cameras, frames = cameras_around_ball(), []
    for i in range(FRAMES):
        image = to_uint8(render_image(Ball(), cameras.generate_rays(i), torch.zeros(3), 1.0).color)
        write_image(folder / f"clean/{i}.png", image)
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        row, column = (5 * i) % (HEIGHT - 7), (7 * i) % (WIDTH - 8)
        image[row : row + 7, column : column + 8] = MAGENTA
        mask[row : row + 7, column : column + 8] = 0
        write_image(folder / f"images/{i}.png", image)
        write_image(folder / f"masks/{i}.png", mask)
        pose = torch.cat([cameras.camera_to_world[i] * torch.tensor([1.0, -1.0, -1.0, 1.0]), torch.eye(4)[3:]])
        frames.append(
            {
                "file_path": f"images/{i}.png",
                "mask_path": f"masks/{i}.png",
                "transform_matrix": pose.tolist(),
                "exposure": 0.01,
            }
        )
    intrinsics = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    (folder / "transforms.json").write_text(json.dumps({**intrinsics, "frames": frames}))
    return read_transforms(folder)


@dataclass(frozen=True)
class BallCaptures:
    """Three variants of the ball capture."""

    masked: Capture
    """With the moving object, and masks that cover it."""

    @property
    def unmasked(self) -> Capture:
        """With the moving object and without masks."""
        return replace(self.masked, frames=tuple(replace(frame, mask=None) for frame in self.masked.frames))

    @property
    def clean(self) -> Capture:
        """Without the moving object."""
        frames = (replace(frame, image=frame.image.replace("images/", "clean/")) for frame in self.unmasked.frames)
        return replace(self.masked, frames=tuple(frames))


@pytest.fixture(scope="session")
def ball(tmp_path_factory: pytest.TempPathFactory) -> BallCaptures:
    return BallCaptures(masked=write_ball_capture(tmp_path_factory.mktemp("ball")))


def build_trainer(
    capture: Capture,
    *,
    steps: int,
    rays: int = 256,
    seed: int = 0,
    frames: Sequence[int] = TRAIN_FRAMES,
    **options: object,
) -> Trainer:
    """Return a trainer of a tiny field at step 0; learning rates are high because there are few steps."""
    torch.manual_seed(seed)
    spec = FieldSpec(
        origin=(0.0, 0.0, 0.0), half_extent=2.0, near=1.5, far=50.0, exposure_reference=0.01,
        frames=tuple(capture.frames[index].name for index in frames), num_levels=4, log2_hashmap_size=12,
        base_resolution=4, max_resolution=64, hidden_dim=16, appearance_dim=4, proposal_num_levels=3,
        proposal_log2_hashmap_size=11, proposal_max_resolution=32, visibility_log2_hashmap_size=10,
        visibility_max_resolution=16, num_proposal_samples=24, num_samples=12,
    )  # fmt: skip
    learning_rates = {"grid_lr": 0.1, "mlp_lr": 0.02, "lr_final_ratio": 0.1}
    config = TrainConfig(steps=steps, rays_per_step=rays, seed=seed, **{**learning_rates, **options})
    sampler = PixelSampler(
        capture,
        frames,
        downscale=1,
        budget_bytes=config.image_cache_bytes,
        seed=seed,
        use_depth=capture.sparse_points is not None,
    )
    exposures = torch.tensor([capture.frames[index].exposure or 0.01 for index in frames])
    return Trainer(BlockField(spec), sampler, exposures, config)


def held_out_psnr(trainer: Trainer, capture: Capture) -> float:
    """Return the mean PSNR over the test frames, rendered with the mean appearance code."""
    field, scores = trainer.field, []
    for index in TEST_FRAMES:
        rendering = render_image(field, capture.cameras().generate_rays(index), field.mean_appearance_code(), 0.01)
        target = torch.from_numpy(capture.read_image(index)).float() / 255.0
        scores.append(float(psnr(rendering.color, target)))
    return sum(scores) / len(scores)


def train(capture: Capture) -> Trainer:
    """Return a trainer after 150 steps."""
    trainer = build_trainer(capture, steps=150)
    while trainer.step < trainer.config.steps:
        trainer.train_step()
    return trainer


@pytest.fixture(scope="session")
def trained_clean(ball: BallCaptures) -> Trainer:
    """A short training without moving objects, shared by tests, which must not change it."""
    return train(ball.clean)


@pytest.fixture(scope="session")
def trained_masked(ball: BallCaptures) -> Trainer:
    """A short training with masked moving objects, shared by tests, which must not change it."""
    return train(ball.masked)


@pytest.fixture(scope="session")
def make_trainer() -> Callable[..., Trainer]:
    return build_trainer


@pytest.fixture(scope="session")
def score() -> Callable[[Trainer, Capture], float]:
    return held_out_psnr
