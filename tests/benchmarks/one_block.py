"""One block over a whole capture, for benchmarks that train a field."""

from dataclasses import dataclass
from pathlib import Path

import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.transforms import read_transforms
from blocknerf.partitioning.block import Block
from blocknerf.training.config import TrainConfig
from blocknerf.training.setup import make_trainer
from blocknerf.training.trainer import Trainer

SAMPLE = Path(__file__).parents[2] / "data_samples" / "mini_city"
HELD_OUT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OneBlock:
    """A capture, the trainer of its block, and the held-out frames."""

    capture: Capture
    trainer: Trainer
    held_out: tuple[int, ...]


def one_block(path: Path, *, steps: int, downscale: int = 1, radius: float | None = None, **options) -> OneBlock:
    """Return a draft block around the median camera of a capture, with all frames that are not held out."""
    capture = read_transforms(path)
    centers = capture.cameras().centers
    center = centers.median(0).values
    block_radius = radius or float(torch.quantile((centers - center).norm(dim=-1), 0.9))
    held_out = tuple(i for i in range(len(capture)) if i % HELD_OUT == HELD_OUT // 2)
    frames = [i for i in range(len(capture)) if i not in held_out]
    block = Block(name="b000", origin=tuple(center.tolist()), radius=block_radius)
    config = TrainConfig.preset("draft", pixels=0, steps=steps, downscale=downscale, **options)
    trainer = make_trainer(capture, block, frames, config=config)
    return OneBlock(capture=capture, trainer=trainer, held_out=held_out)
