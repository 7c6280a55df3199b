"""Triton (GPU) ray marching: proposal weights, resampling, and the field until the end of each ray.

Samples in empty cells are skipped. The field is evaluated a few samples of each ray at a time, front to back, until the
ray's transmittance is below MIN_TRANSMITTANCE. Unlike the reference, every evaluated sample is shaded, even with a
weight below MIN_TRANSMITTANCE of the ray's opacity.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.devices import STORAGE_DTYPE
from blocknerf.kernels.hash_grid import level_weights_on_device
from blocknerf.kernels.hash_grid.triton_cells import as_words, level_params
from blocknerf.kernels.hash_grid.triton_impl import to_half
from blocknerf.kernels.marching.api import MIN_TRANSMITTANCE, FieldParams
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling.triton_impl import sample_pdf
from blocknerf.kernels.radiance import HashGridParams
from blocknerf.kernels.radiance.triton_kernels import (
    activate,
    encode_tile,
    extract_column,
    load_bias,
    load_per_ray,
    load_tile,
    load_transposed,
    to_half_saturating,
    trunc_exp_density,
)
from blocknerf.kernels.ray_samples.triton_impl import s_to_t
from blocknerf.kernels.triton_ops import max_nan, num_programs, padded_width

BLOCK_SIZE = 128
"""Samples per tile."""
RUN_LENGTH, PROPOSAL_RUN_LENGTH = 8, 16
"""Consecutive samples of a ray that are evaluated together, of the field and of the proposals."""
PROGRAMS = 8
"""Programs per multiprocessor, twice as many as fit: rays end early, so programs finish at different times."""

_MIN_TRANSMITTANCE = tl.constexpr(MIN_TRANSMITTANCE)


def march(
    network: FieldParams, rays: RayBundle, ray_bias: Float[Tensor, "rays hidden"], sky: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Return color, depth and opacity."""
    count, device = len(rays), sky.device
    out_color, out_depth, out_opacity = torch.empty_like(sky), sky.new_empty(count), sky.new_empty(count)
    if not count:
        return out_color, out_depth, out_opacity
    ray_tensors = [tensor.contiguous() for tensor in (rays.origins, rays.directions, rays.pixel_radii)]
    weights = sky.new_empty(count, network.proposal_samples)
    programs = num_programs(triton.cdiv(count, BLOCK_SIZE // PROPOSAL_RUN_LENGTH), device, PROGRAMS)
    arguments = _KernelArguments(network, network.proposal, programs)
    _proposal_kernel[(arguments.num_programs,)](
        *ray_tensors, weights, count, network.proposal_samples, *arguments.arguments, **arguments.constants,
        RUN_LENGTH=PROPOSAL_RUN_LENGTH,
    )  # fmt: skip
    uniform_edges = torch.linspace(0.0, 1.0, network.proposal_samples + 1, device=device)
    jitter = sky.new_full((count,), 0.5)
    edges = sample_pdf(uniform_edges.expand(count, -1), weights, jitter, network.samples, HISTOGRAM_PADDING)
    programs = num_programs(triton.cdiv(count, BLOCK_SIZE // RUN_LENGTH), device, PROGRAMS)
    arguments = _KernelArguments(network, network.field, programs)
    colors = [tensor for pair in zip(network.color.weights, network.color.biases, strict=True) for tensor in pair]
    _render_kernel[(arguments.num_programs,)](
        *ray_tensors, edges, ray_bias.contiguous(), sky.contiguous(), *colors, out_color, out_depth, out_opacity, count,
        network.samples, float(network.spacing.far), *arguments.arguments, **arguments.constants,
        OUTPUTS=arguments.outputs, PADDED_OUT=padded_width(arguments.outputs), COLOR_HIDDEN=ray_bias.shape[1],
        RUN_LENGTH=RUN_LENGTH,
    )  # fmt: skip
    return out_color, out_depth, out_opacity


class _KernelArguments:
    """Kernel arguments and constants of a hash-grid MLP and of the block's position."""

    def __init__(self, network: FieldParams, params: HashGridParams, num_programs: int) -> None:
        grid, table = params.grid, params.table
        self.num_programs = num_programs
        self.outputs, hidden = params.weights[1].shape
        shape = grid.num_levels, num_programs * BLOCK_SIZE, grid.features_per_level
        planes = torch.empty(shape, dtype=STORAGE_DTYPE, device=table.device)
        gains = level_weights_on_device(grid, params.active_levels, table)
        s_near, s_far = network.spacing.s_range
        self.arguments: tuple[Any, ...] = (
            gains, *level_params(grid, table.device), as_words(to_half(table, params.half)),
            as_words(planes.view(-1, grid.features_per_level)),
            planes, params.weights[0], params.biases[0], params.weights[1], params.biases[1],
            *map(float, network.origin), 1.0 / network.half_extent, s_near, s_far - s_near,
            float(network.spacing.linear_until), *_bytes(network.occupancy),
            None if network.min_std is None else network.min_std.contiguous(),
        )  # fmt: skip
        self.constants = {
            "LEVELS": grid.num_levels,
            "FEATURES": grid.features_per_level,
            "PADDED_IN": padded_width(grid.output_dim),
            "HIDDEN": hidden,
            "PADDED_HIDDEN": padded_width(hidden),
            "GAINS": gains is not None,
            "CELLS": network.occupancy is not None,
            "LIMITS": 0 if network.min_std is None else network.min_std.shape[0],
            "BLOCK_SIZE": BLOCK_SIZE,
            "num_warps": 4 if hidden <= 32 else 8,
            "num_stages": 1,
        }


def _bytes(cells: Tensor | None) -> tuple[Tensor | None, int]:
    """Return cells as bytes, and the number of cells per side."""
    return (None, 0) if cells is None else (cells.view(torch.uint8), cells.shape[0])


@triton.jit
@no_type_check
def _contract_samples(origins, directions, radii, ray, middle, mask, cx, cy, cz, scale):
    """Return positions and standard deviations of samples in the contracted unit cube."""
    x = tl.load(origins + 3 * ray, mask=mask, other=0.0) - cx
    y = tl.load(origins + 3 * ray + 1, mask=mask, other=0.0) - cy
    z = tl.load(origins + 3 * ray + 2, mask=mask, other=0.0) - cz
    x = (x + middle * tl.load(directions + 3 * ray, mask=mask, other=0.0)) * scale
    y = (y + middle * tl.load(directions + 3 * ray + 1, mask=mask, other=0.0)) * scale
    z = (z + middle * tl.load(directions + 3 * ray + 2, mask=mask, other=0.0)) * scale
    norm = max_nan(max_nan(tl.abs(x), tl.abs(y)), max_nan(tl.abs(z), 1.0))
    factor = 0.25 * (2.0 - 1.0 / norm) / norm
    # Levels fade by standard deviation; that of a disc is half its radius.
    std = 0.5 * middle * tl.load(radii + ray, mask=mask, other=0.0) * factor * scale
    return x * factor + 0.5, y * factor + 0.5, z * factor + 0.5, std


@triton.jit
@no_type_check
def _occupied(x, y, z, cells, side, mask):
    """Return which samples are in occupied cells."""
    i = tl.minimum(tl.maximum((x * side).to(tl.int32), 0), side - 1)
    j = tl.minimum(tl.maximum((y * side).to(tl.int32), 0), side - 1)
    k = tl.minimum(tl.maximum((z * side).to(tl.int32), 0), side - 1)
    return mask & (tl.load(cells + (i * side + j) * side + k, mask=mask, other=0) != 0)


@triton.jit
@no_type_check
def _raise_std(std, x, y, z, limits, side: tl.constexpr, mask):
    """Return standard deviations, raised to a limit that is interpolated between the centers of its cells."""
    i, step_i, u = _lower_cell(x, side, side * side)
    j, step_j, v = _lower_cell(y, side, side)
    k, step_k, w = _lower_cell(z, side, 1)
    first = limits + i + j + k
    limit = tl.zeros_like(std)
    for corner in tl.static_range(8):
        offset = (corner & 1) * step_k + (corner >> 1 & 1) * step_j + (corner >> 2) * step_i
        weight = (w if corner & 1 else 1.0 - w) * (v if corner & 2 else 1.0 - v) * (u if corner & 4 else 1.0 - u)
        limit += weight * tl.load(first + offset, mask=mask, other=0.0)
    return tl.maximum(std, limit)


@triton.jit
@no_type_check
def _lower_cell(position, side: tl.constexpr, stride: tl.constexpr):
    """Return index offsets of the cell below a coordinate and from there to the one above, and the fraction between."""
    position = position * side - 0.5
    number = tl.minimum(tl.maximum(position.to(tl.int32), 0), side - 1)
    fraction = position - number.to(tl.float32)
    return number * stride, tl.where(number < side - 1, stride, 0), tl.where(fraction > 0.0, fraction, 0.0)


@triton.jit
@no_type_check
def _encode_samples(
    origins, directions, radii, ray, middle, mask, cx, cy, cz, scale, cells, side, limits,
    gains, scales, levels, words, planes, half_planes, index, stride,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr, GAINS: tl.constexpr, CELLS: tl.constexpr,
    LIMITS: tl.constexpr,
):  # fmt: skip
    """Return encoded samples as a matrix, and the mask of evaluated samples."""
    x, y, z, std = _contract_samples(origins, directions, radii, ray, middle, mask, cx, cy, cz, scale)
    active = _occupied(x, y, z, cells, side, mask) if CELLS else mask
    if LIMITS:
        std = _raise_std(std, x, y, z, limits, LIMITS, active)
    encode_tile(x, y, z, std, gains, scales, levels, words, planes, index, stride, active, LEVELS, FEATURES, GAINS)
    tl.debug_barrier()
    return load_tile(half_planes, index, stride, active, LEVELS, FEATURES, PADDED_IN), active


@triton.jit
@no_type_check
def _proposal_kernel(
    origins, directions, radii, weights, count, samples,
    gains, scales, levels, words, planes, half_planes, w1, b1, w2, b2,
    cx, cy, cz, scale, s_near, s_extent, linear_until, cells, side, limits,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr, HIDDEN: tl.constexpr,
    PADDED_HIDDEN: tl.constexpr,
    GAINS: tl.constexpr, CELLS: tl.constexpr, LIMITS: tl.constexpr, BLOCK_SIZE: tl.constexpr, RUN_LENGTH: tl.constexpr,
):  # fmt: skip
    """Proposal weights of evenly spaced samples, run by run until the ray's transmittance is too small."""
    RAYS: tl.constexpr = BLOCK_SIZE // RUN_LENGTH
    first = load_transposed(w1, HIDDEN, LEVELS * FEATURES, PADDED_HIDDEN, PADDED_IN)
    bias = load_bias(b1, HIDDEN, PADDED_HIDDEN)
    second, bias2 = load_transposed(w2, 1, HIDDEN, 16, PADDED_HIDDEN), load_bias(b2, 1, 16)
    stride = tl.num_programs(0) * BLOCK_SIZE
    lane = tl.arange(0, BLOCK_SIZE)
    index = tl.program_id(0) * BLOCK_SIZE + lane
    for tile in range(tl.program_id(0), tl.cdiv(count, RAYS), tl.num_programs(0)):
        ray = tile * RAYS + lane // RUN_LENGTH
        transmittance = tl.full([RAYS], 1.0, tl.float32)
        for start in range(0, samples, RUN_LENGTH):
            sample = start + lane % RUN_LENGTH
            inside = (ray < count) & (sample < samples)
            mask = inside & (_per_sample(transmittance, RAYS, RUN_LENGTH, BLOCK_SIZE) >= _MIN_TRANSMITTANCE)
            weight = tl.zeros([RAYS, RUN_LENGTH], tl.float32)
            if tl.max(mask.to(tl.int32), 0) > 0:
                near = s_to_t(sample.to(tl.float32) / samples, s_near, s_extent, linear_until)
                far = s_to_t((sample + 1).to(tl.float32) / samples, s_near, s_extent, linear_until)
                middle = 0.5 * (near + far)
                inputs, active = _encode_samples(
                    origins, directions, radii, ray, middle, mask, cx, cy, cz, scale, cells, side, limits,
                    gains, scales, levels, words, planes, half_planes, index, stride, LEVELS, FEATURES, PADDED_IN,
                    GAINS, CELLS, LIMITS,
                )  # fmt: skip
                outputs = tl.dot(activate(tl.dot(inputs, first) + bias), second) + bias2
                density = trunc_exp_density(extract_column(outputs, 0, 16), scale)
                thickness = tl.reshape(tl.where(active, density * (far - near), 0.0), [RAYS, RUN_LENGTH])
                weight, transmittance = _alpha_weights(thickness, transmittance)
                tl.debug_barrier()
            tl.store(weights + ray * samples + sample, tl.reshape(weight, [BLOCK_SIZE]), mask=inside)


@triton.jit
@no_type_check
def _per_sample(values, RAYS: tl.constexpr, RUN_LENGTH: tl.constexpr, BLOCK_SIZE: tl.constexpr):
    """Broadcast one value per ray to the samples of a tile."""
    return tl.reshape(tl.broadcast_to(values[:, None], [RAYS, RUN_LENGTH]), [BLOCK_SIZE])


@triton.jit
@no_type_check
def _alpha_weights(thickness, transmittance):
    """Return weights of a run from optical thickness and incoming transmittance, and the remaining transmittance.

    The first sample with too little transmittance absorbs all of it and ends the ray (`torch_impl.early_stop_weights`).
    """
    reaching = transmittance[:, None] * tl.exp(thickness - tl.cumsum(thickness, 1))
    below_min = (reaching < _MIN_TRANSMITTANCE).to(tl.int32)
    last = (below_min == 1) & (tl.cumsum(below_min, 1) == 1)
    weight = tl.where(below_min == 1, tl.where(last, reaching, 0.0), reaching * (1.0 - tl.exp(-thickness)))
    return weight, tl.where(tl.max(below_min, axis=1) > 0, 0.0, transmittance * tl.exp(-tl.sum(thickness, axis=1)))


@triton.jit
@no_type_check
def _render_kernel(
    origins, directions, radii, edges, ray_bias, sky, c1, d1, c2, d2, c3, d3, out_color, out_depth, out_opacity, count,
    samples, max_depth, gains, scales, levels, words, planes, half_planes, w1, b1, w2, b2,
    cx, cy, cz, scale, s_near, s_extent, linear_until, cells, side, limits,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr, HIDDEN: tl.constexpr,
    PADDED_HIDDEN: tl.constexpr, GAINS: tl.constexpr, CELLS: tl.constexpr, LIMITS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, OUTPUTS: tl.constexpr, PADDED_OUT: tl.constexpr, COLOR_HIDDEN: tl.constexpr,
    RUN_LENGTH: tl.constexpr,
):  # fmt: skip
    """Color, depth and opacity of rays, run by run until their transmittance is too small."""
    RAYS: tl.constexpr = BLOCK_SIZE // RUN_LENGTH
    # Load the last layer's weights where they are used: with them, registers would not suffice on 8.0.
    first = load_transposed(w1, HIDDEN, LEVELS * FEATURES, PADDED_HIDDEN, PADDED_IN)
    second = load_transposed(w2, OUTPUTS, HIDDEN, PADDED_OUT, PADDED_HIDDEN)
    third = load_transposed(c1, COLOR_HIDDEN, OUTPUTS, COLOR_HIDDEN, PADDED_OUT)
    fourth = load_transposed(c2, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN)
    stride = tl.num_programs(0) * BLOCK_SIZE
    lane = tl.arange(0, BLOCK_SIZE)
    index = tl.program_id(0) * BLOCK_SIZE + lane
    channel, row = tl.arange(0, 16), tl.arange(0, RAYS)
    for tile in range(tl.program_id(0), tl.cdiv(count, RAYS), tl.num_programs(0)):
        ray = tile * RAYS + lane // RUN_LENGTH
        transmittance, opacity = tl.full([RAYS], 1.0, tl.float32), tl.zeros([RAYS], tl.float32)
        rgb, depth_sum = tl.zeros([RAYS, 16], tl.float32), tl.zeros([RAYS], tl.float32)
        for start in range(0, samples, RUN_LENGTH):
            sample = start + lane % RUN_LENGTH
            visible = _per_sample(transmittance, RAYS, RUN_LENGTH, BLOCK_SIZE) >= _MIN_TRANSMITTANCE
            mask = (ray < count) & (sample < samples) & visible
            if tl.max(mask.to(tl.int32), 0) > 0:
                edge = edges + ray * (samples + 1) + sample
                near = s_to_t(tl.load(edge, mask=mask, other=0.0), s_near, s_extent, linear_until)
                far = s_to_t(tl.load(edge + 1, mask=mask, other=0.0), s_near, s_extent, linear_until)
                middle = 0.5 * (near + far)
                inputs, active = _encode_samples(
                    origins, directions, radii, ray, middle, mask, cx, cy, cz, scale, cells, side, limits,
                    gains, scales, levels, words, planes, half_planes, index, stride, LEVELS, FEATURES, PADDED_IN,
                    GAINS, CELLS, LIMITS,
                )  # fmt: skip
                sums = tl.dot(inputs, first) + load_bias(b1, HIDDEN, PADDED_HIDDEN)
                outputs = tl.dot(activate(sums), second) + load_bias(b2, OUTPUTS, PADDED_OUT)
                density = trunc_exp_density(extract_column(outputs, 0, PADDED_OUT), scale)
                thickness = tl.reshape(tl.where(active, density * (far - near), 0.0), [RAYS, RUN_LENGTH])
                weight, transmittance = _alpha_weights(thickness, transmittance)
                sums = tl.dot(to_half_saturating(outputs), third) + load_bias(d1, COLOR_HIDDEN, COLOR_HIDDEN)
                sums += load_per_ray(ray_bias, ray, 1, mask, COLOR_HIDDEN, COLOR_HIDDEN)
                sums = tl.dot(activate(sums), fourth) + load_bias(d2, COLOR_HIDDEN, COLOR_HIDDEN)
                last = load_transposed(c3, 3, COLOR_HIDDEN, 16, COLOR_HIDDEN)
                sample_rgb = tl.sigmoid(tl.dot(activate(sums), last) + load_bias(d3, 3, 16))
                sample_weight = tl.where(active, tl.reshape(weight, [BLOCK_SIZE]), 0.0)
                rgb += tl.sum(tl.reshape(sample_weight[:, None] * sample_rgb, [RAYS, RUN_LENGTH, 16]), axis=1)
                opacity += tl.sum(weight, axis=1)
                depth_sum += tl.sum(weight * tl.reshape(middle, [RAYS, RUN_LENGTH]), axis=1)
                tl.debug_barrier()
        out_ray = tile * RAYS + row
        ray_mask = out_ray < count
        inside = ray_mask[:, None] & (channel < 3)[None, :]
        sky_color = tl.load(sky + out_ray[:, None] * 3 + channel[None, :], mask=inside, other=0.0)
        passed = tl.where(opacity < 1.0, 1.0 - opacity, 0.0)
        tl.store(
            out_color + out_ray[:, None] * 3 + channel[None, :], rgb + passed[:, None] * sky_color, mask=inside
        )  # fmt: skip
        tl.store(out_depth + out_ray, depth_sum + passed * max_depth, mask=ray_mask)
        tl.store(out_opacity + out_ray, opacity, mask=ray_mask)
