"""Everything that the training of one block needs, from a capture and a block."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from blocknerf.capture.capture import Capture
from blocknerf.errors import OptionError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.options import Preset, check_whole
from blocknerf.partitioning.block import Block
from blocknerf.training.config import TrainConfig, override_field
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.sparse_depth import distances_in_view
from blocknerf.training.trainer import Trainer

NEAR_FRACTION = 0.02
"""Near plane as a fraction of the block's radius. Measured points can move it farther out."""
FAR_FRACTION = 100.0
"""Far plane in block radii."""
SAMPLED_FRAMES = 12
"""Frames of a block in which the nearest point distance is measured."""
NEAR_QUANTILE = 1e-3
"""Fraction of the points in view treated as stray; the near plane may lie behind them."""
MIN_IMAGE_SIDE = 8
"""Minimum side, in pixels, of a downscaled image."""
MAX_IMAGE_SIDE: dict[Preset, float] = {"draft": 400, "standard": 1600, "fine": math.inf}
"""Maximum image side, in pixels, by preset; larger images are downscaled."""


def spec_for_block(capture: Capture, block: Block, frames: Sequence[int], preset: Preset) -> FieldSpec:
    """Return the field spec of a block.

    The block's cube is as wide as its disc, and the near plane is in front of the nearest measured point.
    """
    return FieldSpec.preset(
        preset,
        origin=block.origin,
        half_extent=block.radius,
        near=max(NEAR_FRACTION * block.radius, 0.5 * _nearest_distance(capture, frames)),
        far=FAR_FRACTION * block.radius,
        frames=tuple(capture.frames[index].name for index in frames),
        exposure_reference=capture.facts.exposure,
    )


def default_downscale(capture: Capture, preset: Preset) -> int:
    """Return the smallest factor that brings every image within the preset's maximum side."""
    return max(1, math.ceil(capture.facts.longest_side / MAX_IMAGE_SIDE[preset]))


def check_downscale(capture: Capture, downscale: int | None) -> None:
    """Check that a downscale factor is valid and leaves enough of the smallest image.

    Raises:
        OptionError: The factor is invalid or too large; names the largest possible one.
    """
    check_whole(downscale=downscale)
    smallest = capture.facts.shortest_side
    if downscale is not None and smallest // downscale < MIN_IMAGE_SIDE:
        largest = max(1, smallest // MIN_IMAGE_SIDE)
        raise OptionError(f"--downscale {downscale} makes the images too small; use at most {largest}")


def _nearest_distance(capture: Capture, frames: Sequence[int]) -> float:
    """Return the distance that nearly all points in view of the block's images exceed; zero without points.

    Occluded points count as well, since their occluders are even nearer. `project_depths` is not used because it
    drops the nearest points of a sparse cloud, for which it cannot determine occlusion: on a walking capture with a
    point every 0.9 m, it drops all points within 30 m.
    """
    cloud = capture.depth_points()
    if cloud is None:
        return 0.0
    points, cameras = torch.from_numpy(cloud.positions), capture.cameras()
    sampled = list(frames)[:: max(1, len(frames) // SAMPLED_FRAMES)]
    distances = torch.cat([distances_in_view(points, cameras, index) for index in sampled])
    return float(np.quantile(distances.numpy(), NEAR_QUANTILE)) if len(distances) else 0.0


def make_config(
    capture: Capture, frames: Sequence[int], preset: Preset = "draft", *, downscale: int | None = None, **choices: Any
) -> TrainConfig:
    """Return the preset's configuration for a block, with the number of steps from its number of pixels.

    Args:
        capture: Images and cameras.
        frames: Indices of the training frames.
        preset: Quality preset.
        downscale: Reduce images by this factor. Default: the preset's image size.
        choices: Other fields of `TrainConfig` to set.
    """
    factor = default_downscale(capture, preset) if downscale is None else downscale
    intrinsics = [capture.frames[index].intrinsics for index in frames]
    pixels = sum(camera.width * camera.height for camera in intrinsics) // factor**2
    return TrainConfig.preset(preset, pixels=pixels, downscale=factor, **choices)


def make_trainer(
    capture: Capture,
    block: Block,
    frames: Sequence[int],
    *,
    preset: Preset = "draft",
    config: TrainConfig | None = None,
    field: Mapping[str, int | float] | None = None,
    device: torch.device | str = "cpu",
) -> Trainer:
    """Return a trainer of one block; each call of its `train_step` takes one optimization step.

    Args:
        capture: Images and cameras.
        block: Position and radius.
        frames: Indices of the training frames.
        preset: Quality preset, for what the next two leave open.
        config: How to train. Default: `make_config`.
        field: Fields of `FieldSpec` to override, by name.
        device: Where to train.

    Raises:
        CaptureError: an image cannot be read.
        OptionError: overrides of the field contradict each other.
    """
    device = torch.device(device)
    config = make_config(capture, frames, preset) if config is None else config
    torch.manual_seed(config.seed)
    spec = override_field(spec_for_block(capture, block, frames, preset), field or {})
    # Initialized on the CPU, so that a block starts from the same weights on every device.
    network = BlockField(spec).to(device)
    pixels = PixelSampler(
        capture,
        frames,
        downscale=config.downscale,
        budget_bytes=config.image_cache_bytes,
        seed=config.seed,
        use_depth=True,
        device=device,
    )
    exposures = [capture.frames[index].exposure or spec.exposure_reference for index in frames]
    return Trainer(network, pixels, torch.tensor(exposures, device=device), config)
