"""Everything that the training of one block needs, from a capture and a block."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from blocknerf.capture.capture import Capture
from blocknerf.fields.block_field import BlockField
from blocknerf.partitioning.block import Block
from blocknerf.quality import Preset
from blocknerf.training.block_spec import default_downscale, spec_for_block
from blocknerf.training.config import TrainConfig
from blocknerf.training.overrides import override_field
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.trainer import Trainer


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
