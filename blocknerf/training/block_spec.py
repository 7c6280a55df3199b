"""The spec of a block's field, from the block and its capture."""

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
import torch

from blocknerf.capture.capture import Capture
from blocknerf.errors import OptionError
from blocknerf.fields.spec import FieldSpec
from blocknerf.options import check_whole
from blocknerf.partition.block import Block
from blocknerf.quality import Preset
from blocknerf.training.sparse_depth import distances_in_view

NEAR_FRACTION = 0.02
"""Rays begin at this share of the block's radius, unless measured points show that nothing is so near."""
FAR_FRACTION = 100.0
SAMPLED_FRAMES = 12
NEAREST_FRACTION = 1e-3
"""Share of points in view, stray ones, that rays may begin behind."""
MIN_SIDE = 8
"""Pixels that a photograph asked to be shrunk must keep, either way."""
LONG_SIDE: dict[Preset, float] = {"draft": 400, "standard": 1600, "fine": math.inf}
"""Longest image side, in pixels, that a preset learns from."""


def spec_for_block(capture: Capture, block: Block, frames: Sequence[int], preset: Preset) -> FieldSpec:
    """The field of a block: its cube is as wide as the disc, and rays begin before the nearest measured point."""
    exposures = [frame.exposure for frame in capture.frames if frame.exposure is not None]
    return FieldSpec.preset(
        preset,
        origin=block.origin,
        half_extent=block.radius,
        near=max(NEAR_FRACTION * block.radius, 0.5 * _nearest_distance(capture, frames)),
        far=FAR_FRACTION * block.radius,
        frames=tuple(capture.frames[index].name for index in frames),
        exposure_reference=median(exposures) if exposures else 1.0,
    )


def default_downscale(capture: Capture, preset: Preset) -> int:
    """The smallest factor that brings every photograph within the preset's size."""
    longest = max(max(frame.intrinsics.width, frame.intrinsics.height) for frame in capture.frames)
    return max(1, math.ceil(longest / LONG_SIDE[preset]))


def check_downscale(capture: Capture, downscale: int | None) -> None:
    """Refuse a factor that is none, or leaves too little of the smallest photograph.

    Raises:
        OptionError: naming the largest that will do.
    """
    check_whole(downscale=downscale)
    smallest = min(min(frame.intrinsics.width, frame.intrinsics.height) for frame in capture.frames)
    if downscale is not None and smallest // downscale < MIN_SIDE:
        most = max(1, smallest // MIN_SIDE)
        raise OptionError(f"--downscale {downscale} leaves too little of the photographs; give at most {most}")


def _nearest_distance(capture: Capture, frames: Sequence[int]) -> float:
    """Distance that nearly all measured points in view of the block's photographs exceed; zero without points.

    Points that others hide count as well: what hides them is nearer still. `project_depths` would leave the nearest
    out, since of a sparse cloud's it cannot say what they hide: on a walk with a point every 0.9 m all within 30 m.
    """
    cloud = capture.read_lidar_points() or capture.read_sparse_points()
    if cloud is None or not len(cloud.positions):
        return 0.0
    points, cameras = torch.from_numpy(cloud.positions), capture.cameras()
    probed = list(frames)[:: max(1, len(frames) // SAMPLED_FRAMES)]
    distances = torch.cat([distances_in_view(points, cameras, index) for index in probed])
    return float(np.quantile(distances.numpy(), NEAREST_FRACTION)) if len(distances) else 0.0
