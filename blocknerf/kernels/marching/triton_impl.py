"""Marching in Triton for a GPU: proposals, where samples go, and the field to the end of each ray.

Samples in empty cells are never looked up, and the field is asked a few samples of each ray at a time, front to back:
a ray whose light is spent asks for nothing more. Unlike the reference it has every color that it weighs, and so counts
them all, even those of less than STEP of a ray's opacity.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.hash_grid import level_weights_on_device
from blocknerf.kernels.hash_grid.triton_cells import facts, packed
from blocknerf.kernels.hash_grid.triton_impl import halved
from blocknerf.kernels.marching.params import STEP, FieldParams
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling.triton_impl import sample_pdf
from blocknerf.kernels.precision import STORAGE_DTYPE
from blocknerf.kernels.radiance import HashGridParams
from blocknerf.kernels.radiance.forward import density_of
from blocknerf.kernels.radiance.triton_tiles import (
    activate,
    column_of,
    encode_tile,
    halve,
    load_tile,
    of_rays,
    turned,
    vector,
)
from blocknerf.kernels.ray_samples.triton_impl import distance_at
from blocknerf.kernels.triton_ops import larger, programs, room

BLOCK = 128
"""Samples of a tile."""
RUN, PROPOSAL_RUN = 8, 16
"""Samples of a ray that are asked for at a time, of the field and of the proposals."""
PROGRAMS = 8
"""A multiprocessor, twice as many as it holds: rays end early, and who is done first takes more."""

_STEP = tl.constexpr(STEP)


def march(
    network: FieldParams, rays: RayBundle, row_bias: Float[Tensor, "rays hidden"], sky: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Color, depth and opacity."""
    count, device = len(rays), sky.device
    color, depth, opacity = torch.empty_like(sky), sky.new_empty(count), sky.new_empty(count)
    if not count:
        return color, depth, opacity
    given = [tensor.contiguous() for tensor in (rays.origins, rays.directions, rays.pixel_radii)]
    weights = sky.new_empty(count, network.proposal_samples)
    part = _Part(network, network.proposal, programs(triton.cdiv(count, BLOCK // PROPOSAL_RUN), device, PROGRAMS))
    _propose[(part.programs,)](
        *given, weights, count, network.proposal_samples, *part.arguments, **part.constants, RUN=PROPOSAL_RUN
    )
    even = torch.linspace(0.0, 1.0, network.proposal_samples + 1, device=device)
    halves = sky.new_full((count,), 0.5)
    edges = sample_pdf(even.expand(count, -1), weights, halves, network.samples, HISTOGRAM_PADDING)
    part = _Part(network, network.field, programs(triton.cdiv(count, BLOCK // RUN), device, PROGRAMS))
    colors = [tensor for pair in zip(network.color.weights, network.color.biases, strict=True) for tensor in pair]
    _see[(part.programs,)](
        *given, edges, row_bias.contiguous(), sky.contiguous(), *colors, color, depth, opacity, count,
        network.samples, float(network.spacing.far), *part.arguments, **part.constants,
        OUTPUTS=part.outputs, ROOM=room(part.outputs), TINT=row_bias.shape[1], RUN=RUN,
    )  # fmt: skip
    return color, depth, opacity


class _Part:
    """What a kernel is told of a grid and its layers, and of the block's place."""

    def __init__(self, network: FieldParams, part: HashGridParams, programs: int) -> None:
        grid, table = part.grid, part.table
        self.programs = programs
        self.outputs, hidden = part.weights[1].shape
        planes = torch.empty(
            grid.num_levels, programs * BLOCK, grid.features_per_level, dtype=STORAGE_DTYPE, device=table.device
        )
        gains = level_weights_on_device(grid, part.active_levels, table)
        low, high = network.spacing.s_range
        self.arguments: tuple[Any, ...] = (
            gains, *facts(grid, table.device), packed(halved(table, part.half)), packed(planes.view(-1, grid.features_per_level)),
            planes, part.weights[0], part.biases[0], part.weights[1], part.biases[1],
            *map(float, network.origin), 1.0 / network.half_extent, low, high - low, float(network.spacing.linear_until),
            *_bytes(network.occupancy),
        )  # fmt: skip
        self.constants = {
            "LEVELS": grid.num_levels,
            "FEATURES": grid.features_per_level,
            "INPUTS": room(grid.output_dim),
            "HIDDEN": hidden,
            "WIDE": room(hidden),
            "GAINS": gains is not None,
            "CELLS": network.occupancy is not None,
            "BLOCK": BLOCK,
            "num_warps": 4 if hidden <= 32 else 8,
            "num_stages": 1,
        }


def _bytes(cells: Tensor | None) -> tuple[Tensor | None, int]:
    """Cells as a kernel reads them, and how many there are along a side."""
    return (None, 0) if cells is None else (cells.view(torch.uint8), cells.shape[0])


@triton.jit
@no_type_check
def _cube(origins, directions, radii, ray, middle, mask, east, north, up, scale):
    """Where samples are in the contracted unit cube, and how wide."""
    x = tl.load(origins + 3 * ray, mask=mask, other=0.0) - east
    y = tl.load(origins + 3 * ray + 1, mask=mask, other=0.0) - north
    z = tl.load(origins + 3 * ray + 2, mask=mask, other=0.0) - up
    x = (x + middle * tl.load(directions + 3 * ray, mask=mask, other=0.0)) * scale
    y = (y + middle * tl.load(directions + 3 * ray + 1, mask=mask, other=0.0)) * scale
    z = (z + middle * tl.load(directions + 3 * ray + 2, mask=mask, other=0.0)) * scale
    size = larger(larger(tl.abs(x), tl.abs(y)), larger(tl.abs(z), 1.0))
    shrink = 0.25 * (2.0 - 1.0 / size) / size
    # Levels fade by standard deviation, and a disc's is half its radius.
    spread = 0.5 * middle * tl.load(radii + ray, mask=mask, other=0.0) * shrink * scale
    return x * shrink + 0.5, y * shrink + 0.5, z * shrink + 0.5, spread


@triton.jit
@no_type_check
def _occupied(x, y, z, cells, side, mask):
    """Which samples are in cells that are not empty."""
    i = tl.minimum(tl.maximum((x * side).to(tl.int32), 0), side - 1)
    j = tl.minimum(tl.maximum((y * side).to(tl.int32), 0), side - 1)
    k = tl.minimum(tl.maximum((z * side).to(tl.int32), 0), side - 1)
    return mask & (tl.load(cells + (i * side + j) * side + k, mask=mask, other=0) != 0)


@triton.jit
@no_type_check
def _features(
    origins, directions, radii, ray, middle, mask, east, north, up, scale, cells, side,
    gains, scales, levels, words, planes, halves, at, stride,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, INPUTS: tl.constexpr, GAINS: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """The features of samples as a matrix, and which samples are looked up at all."""
    x, y, z, spread = _cube(origins, directions, radii, ray, middle, mask, east, north, up, scale)
    some = _occupied(x, y, z, cells, side, mask) if CELLS else mask
    encode_tile(x, y, z, spread, gains, scales, levels, words, planes, at, stride, some, LEVELS, FEATURES, GAINS)
    tl.debug_barrier()
    return load_tile(halves, at, stride, some, LEVELS, FEATURES, INPUTS), some


@triton.jit
@no_type_check
def _propose(
    origins, directions, radii, weights, count, samples,
    gains, scales, levels, words, planes, halves, w1, b1, w2, b2,
    east, north, up, scale, low, span, knee, cells, side,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, INPUTS: tl.constexpr, HIDDEN: tl.constexpr, WIDE: tl.constexpr,
    GAINS: tl.constexpr, CELLS: tl.constexpr, BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Weights, by the proposals, of even samples, a run of them after the other until the ray's light is spent."""
    RAYS: tl.constexpr = BLOCK // RUN
    first, bias = turned(w1, HIDDEN, LEVELS * FEATURES, WIDE, INPUTS), vector(b1, HIDDEN, WIDE)
    second, bias2 = turned(w2, 1, HIDDEN, 16, WIDE), vector(b2, 1, 16)
    stride = tl.num_programs(0) * BLOCK
    lane = tl.arange(0, BLOCK)
    at = tl.program_id(0) * BLOCK + lane
    for tile in range(tl.program_id(0), tl.cdiv(count, RAYS), tl.num_programs(0)):
        ray = tile * RAYS + lane // RUN
        light = tl.full([RAYS], 1.0, tl.float32)
        for start in range(0, samples, RUN):
            sample = start + lane % RUN
            inside = (ray < count) & (sample < samples)
            mask = inside & (_spread(light, RAYS, RUN, BLOCK) >= _STEP)
            weight = tl.zeros([RAYS, RUN], tl.float32)
            if tl.max(mask.to(tl.int32), 0) > 0:
                near = distance_at(sample.to(tl.float32) / samples, low, span, knee)
                far = distance_at((sample + 1).to(tl.float32) / samples, low, span, knee)
                middle = 0.5 * (near + far)
                inputs, some = _features(
                    origins, directions, radii, ray, middle, mask, east, north, up, scale, cells, side,
                    gains, scales, levels, words, planes, halves, at, stride, LEVELS, FEATURES, INPUTS, GAINS, CELLS,
                )  # fmt: skip
                outputs = tl.dot(activate(tl.dot(inputs, first) + bias), second) + bias2
                density = density_of(column_of(outputs, 0, 16), scale)
                own = tl.reshape(tl.where(some, density * (far - near), 0.0), [RAYS, RUN])
                weight, light = _stopped(own, light)
                tl.debug_barrier()
            tl.store(weights + ray * samples + sample, tl.reshape(weight, [BLOCK]), mask=inside)


@triton.jit
@no_type_check
def _spread(values, RAYS: tl.constexpr, RUN: tl.constexpr, BLOCK: tl.constexpr):
    """For each sample of a tile the number of its ray."""
    return tl.reshape(tl.broadcast_to(values[:, None], [RAYS, RUN]), [BLOCK])


@triton.jit
@no_type_check
def _stopped(own, light):
    """Weights of a run by its optical thickness and the light that reaches it; and the light left behind it.

    The first sample that finds less than STEP takes what there is, and ends the ray (`reference.stopping_weights`).
    """
    reaching = light[:, None] * tl.exp(own - tl.cumsum(own, 1))
    spent = (reaching < _STEP).to(tl.int32)
    last = (spent == 1) & (tl.cumsum(spent, 1) == 1)
    weight = tl.where(spent == 1, tl.where(last, reaching, 0.0), reaching * (1.0 - tl.exp(-own)))
    return weight, tl.where(tl.max(spent, axis=1) > 0, 0.0, light * tl.exp(-tl.sum(own, axis=1)))


@triton.jit
@no_type_check
def _see(
    origins, directions, radii, edges, rows, sky, c1, d1, c2, d2, c3, d3, color, depth, opacity, count, samples, end,
    gains, scales, levels, words, planes, halves, w1, b1, w2, b2,
    east, north, up, scale, low, span, knee, cells, side,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, INPUTS: tl.constexpr, HIDDEN: tl.constexpr, WIDE: tl.constexpr,
    GAINS: tl.constexpr, CELLS: tl.constexpr, BLOCK: tl.constexpr,
    OUTPUTS: tl.constexpr, ROOM: tl.constexpr, TINT: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Color, depth and opacity of rays, a run of samples after the other until their light is spent."""
    RAYS: tl.constexpr = BLOCK // RUN
    # The last layer's weights are taken up where they are needed: with them, registers would not do on 8.0.
    first, second = turned(w1, HIDDEN, LEVELS * FEATURES, WIDE, INPUTS), turned(w2, OUTPUTS, HIDDEN, ROOM, WIDE)
    third, fourth = turned(c1, TINT, OUTPUTS, TINT, ROOM), turned(c2, TINT, TINT, TINT, TINT)
    stride = tl.num_programs(0) * BLOCK
    lane = tl.arange(0, BLOCK)
    at = tl.program_id(0) * BLOCK + lane
    channel, row = tl.arange(0, 16), tl.arange(0, RAYS)
    for tile in range(tl.program_id(0), tl.cdiv(count, RAYS), tl.num_programs(0)):
        ray = tile * RAYS + lane // RUN
        light, seen = tl.full([RAYS], 1.0, tl.float32), tl.zeros([RAYS], tl.float32)
        tints, reach = tl.zeros([RAYS, 16], tl.float32), tl.zeros([RAYS], tl.float32)
        for start in range(0, samples, RUN):
            sample = start + lane % RUN
            mask = (ray < count) & (sample < samples) & (_spread(light, RAYS, RUN, BLOCK) >= _STEP)
            if tl.max(mask.to(tl.int32), 0) > 0:
                place = edges + ray * (samples + 1) + sample
                near = distance_at(tl.load(place, mask=mask, other=0.0), low, span, knee)
                far = distance_at(tl.load(place + 1, mask=mask, other=0.0), low, span, knee)
                middle = 0.5 * (near + far)
                inputs, some = _features(
                    origins, directions, radii, ray, middle, mask, east, north, up, scale, cells, side,
                    gains, scales, levels, words, planes, halves, at, stride, LEVELS, FEATURES, INPUTS, GAINS, CELLS,
                )  # fmt: skip
                sums = tl.dot(inputs, first) + vector(b1, HIDDEN, WIDE)
                outputs = tl.dot(activate(sums), second) + vector(b2, OUTPUTS, ROOM)
                density = density_of(column_of(outputs, 0, ROOM), scale)
                own = tl.reshape(tl.where(some, density * (far - near), 0.0), [RAYS, RUN])
                weight, light = _stopped(own, light)
                sums = tl.dot(halve(outputs), third) + vector(d1, TINT, TINT)
                sums += of_rays(rows, ray, 1, mask, TINT, TINT)
                sums = tl.dot(activate(sums), fourth) + vector(d2, TINT, TINT)
                shown = tl.sigmoid(tl.dot(activate(sums), turned(c3, 3, TINT, 16, TINT)) + vector(d3, 3, 16))
                weighed = tl.where(some, tl.reshape(weight, [BLOCK]), 0.0)
                tints += tl.sum(tl.reshape(weighed[:, None] * shown, [RAYS, RUN, 16]), axis=1)
                seen += tl.sum(weight, axis=1)
                reach += tl.sum(weight * tl.reshape(middle, [RAYS, RUN]), axis=1)
                tl.debug_barrier()
        target = tile * RAYS + row
        there = target < count
        inside = there[:, None] & (channel < 3)[None, :]
        behind = tl.load(sky + target[:, None] * 3 + channel[None, :], mask=inside, other=0.0)
        passed = tl.where(seen < 1.0, 1.0 - seen, 0.0)
        tl.store(
            color + target[:, None] * 3 + channel[None, :], tints + passed[:, None] * behind, mask=inside
        )  # fmt: skip
        tl.store(depth + target, reach + passed * end, mask=there)
        tl.store(opacity + target, seen, mask=there)
