"""Triton (GPU) hash grid.

Forward: a program encodes a block of samples at all levels. Backward to the table: a program takes one level of a block
of samples and adds to entries by relaxed atomics without return value: one per corner for all features of an entry from
compute capability 9.0 on, before that one per feature. At coarse levels, neighbors along rays often share entries, so
they are summed first. The order of atomics is not fixed, so sums differ in the last bits between runs. With PyTorch's
deterministic algorithms, gradients are added as integers, for which order does not matter.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.backends import TRITON_INTERPRET
from blocknerf.kernels.devices import FIXED_POINT, STORAGE_DTYPE
from blocknerf.kernels.hash_grid.spec import GridSpec, level_weights_on_device
from blocknerf.kernels.hash_grid.triton_cells import (
    antialias_weight,
    as_words,
    cell,
    clamp01,
    corner_weight,
    interpolate,
    level_params,
    level_shape,
    load_features,
    load_points,
    table_index,
)
from blocknerf.kernels.triton_ops import capability

BLOCK_SIZE = 1024 if TRITON_INTERPRET else 128
"""Samples per program, one per thread: with more, Triton lays out strided and contiguous reads differently."""
RUN_LENGTH = 8
"""Samples, mostly consecutive on a ray, for which one thread sums the gradient of a corner."""
SHARED_RESOLUTION = 64
"""Up to this resolution, consecutive samples often share a cell: in a street, a quarter of them at 64."""


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None,
    active_levels: float | Tensor | None,
    half: Float16[Tensor, "entries features"] | None,
) -> Float[Tensor, "points encoded"]:
    """Triton version of `torch_impl.encode`, from the table rounded to half precision, or its copy `half`."""
    gains = level_weights_on_device(spec, active_levels, table)
    return _Encode.apply(points.contiguous(), table, footprints, gains, half, spec)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, footprints: Any, gains: Any, half: Any, spec: Any) -> Tensor:
        ctx.spec, ctx.half = spec, to_half(table, half)
        out = points.new_empty(len(points), spec.output_dim)
        _launch(_forward, spec, points, footprints, gains, as_words(ctx.half), out, LEVELS=spec.num_levels)
        ctx.save_for_backward(points, table, footprints, gains)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        points, _, footprints, gains = ctx.saved_tensors
        # One plane per level, as the kernels read them.
        planes = gradients.view(-1, ctx.spec.num_levels, ctx.spec.features_per_level).transpose(0, 1).contiguous()
        grad_points = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_points = points_backward(points, footprints, gains, ctx.half, planes, ctx.spec)
        if ctx.needs_input_grad[1]:
            grad_table = table_backward(points, footprints, gains, planes, ctx.spec)
        return grad_points, grad_table, None, None, None, None


def to_half(table: Tensor, half: Tensor | None) -> Tensor:
    """Return the table in half precision: the given copy, or a new one."""
    return table.detach().to(STORAGE_DTYPE) if half is None else half


def points_backward(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    gains: Float[Tensor, "levels"] | None,
    half: Float16[Tensor, "entries features"],
    gradients: Float[Tensor, "levels points features"],
    spec: GridSpec,
) -> Float[Tensor, "points 3"]:
    """Return gradients of points from gradients of their features."""
    out = torch.empty_like(points)
    _launch(_points_backward, spec, points, footprints, gains, as_words(half), gradients, out, LEVELS=spec.num_levels)
    return out


def table_backward(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    gains: Float[Tensor, "levels"] | None,
    gradients: Float[Tensor, "levels points features"],
    spec: GridSpec,
) -> Float[Tensor, "entries features"]:
    """Return the gradient of a table from gradients of features."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    out = gradients.new_zeros(
        spec.num_entries, spec.features_per_level, dtype=torch.int64 if deterministic else torch.float32
    )
    vector = not deterministic and capability(points.device) >= (9, 0)
    # Integers may be added in any order, but float sums of neighbors would depend on which samples are adjacent.
    num_shared = 0 if deterministic else sum(resolution <= SHARED_RESOLUTION for resolution in spec.resolutions)
    arguments = (spec, points, footprints, gains, gradients, out)
    if num_shared:
        _launch(
            _table_backward_runs, *arguments, num_levels=num_shared, samples_per_program=BLOCK_SIZE * RUN_LENGTH // 8,
            RUN_LENGTH=RUN_LENGTH, VECTOR=vector,
        )  # fmt: skip
    if num_shared < spec.num_levels:
        _launch(
            _table_backward, *arguments, num_levels=spec.num_levels - num_shared, FIRST_LEVEL=num_shared,
            FIXED_SCALE=FIXED_POINT if deterministic else 0.0, VECTOR=vector,
        )  # fmt: skip
    return out.to(torch.float32) / FIXED_POINT if deterministic else out


def _launch(
    kernel: Any,
    spec: GridSpec,
    points: Tensor,
    footprints: Any,
    gains: Any,
    *tensors: Tensor,
    num_levels: int = 1,
    samples_per_program: int = BLOCK_SIZE,
    **constants: Any,
) -> None:
    if not len(points):
        return
    grid = (triton.cdiv(len(points), samples_per_program), num_levels)
    shape = {"FEATURES": spec.features_per_level, "BLOCK_SIZE": BLOCK_SIZE}
    arguments = {"FOOTPRINTS": footprints is not None, "GAINS": gains is not None}
    kernel[grid](
        points, footprints, gains, *level_params(spec, points.device), *tensors, len(points), **shape, **arguments,
        **constants,
    )  # fmt: skip


@triton.jit
@no_type_check
def _forward(
    points, footprints, gains, scales, levels, words, out, count,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, FOOTPRINTS: tl.constexpr, GAINS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = sample < count
    x, y, z, std = load_points(points, footprints, sample, mask, FOOTPRINTS)
    for level in range(LEVELS):
        gain = tl.load(gains + level) if GAINS else 1.0
        factor = antialias_weight(std, gain, tl.load(scales + level))
        a, b, c, d = interpolate(x, y, z, factor, words, scales, levels, level, mask, FEATURES)
        row = out + (sample * LEVELS + level) * FEATURES
        tl.store(row, a, mask=mask)
        tl.store(row + 1, b, mask=mask)
        if FEATURES == 4:
            tl.store(row + 2, c, mask=mask)
            tl.store(row + 3, d, mask=mask)


@triton.jit
@no_type_check
def _points_backward(
    points, footprints, gains, scales, levels, words, gradients, out, count,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, FOOTPRINTS: tl.constexpr, GAINS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = sample < count
    px, py, pz, std = load_points(points, footprints, sample, mask, FOOTPRINTS)
    u, v, w = tl.zeros_like(px), tl.zeros_like(px), tl.zeros_like(px)
    for level in range(LEVELS):
        scale = tl.load(scales + level)
        first, size, side, hashed = level_shape(levels, level)
        gain = tl.load(gains + level) if GAINS else 1.0
        i, x = cell(px, scale)
        j, y = cell(py, scale)
        k, z = cell(pz, scale)
        a, b, c, d = _load_gradient(
            gradients, level * count + sample, antialias_weight(std, gain, scale) * scale, mask, FEATURES
        )
        for corner in tl.static_range(8):
            p, q, r, s = load_features(words, table_index(i, j, k, first, size, side, hashed, corner), mask, FEATURES)
            dot_product = a * p + b * q + c * r + d * s
            # The derivative of a corner's weight along an axis: its sign, times its weight along the other axes.
            wx = x if corner & 1 else 1.0 - x
            wy = y if (corner >> 1) & 1 else 1.0 - y
            wz = z if corner >> 2 else 1.0 - z
            u += dot_product * wy * wz if corner & 1 else -dot_product * wy * wz
            v += dot_product * wx * wz if (corner >> 1) & 1 else -dot_product * wx * wz
            w += dot_product * wx * wy if corner >> 2 else -dot_product * wx * wy
    # The gradient of torch.clamp: one on the cube and its faces, zero outside.
    tl.store(out + 3 * sample, tl.where(clamp01(px) == px, u, 0.0), mask=mask)
    tl.store(out + 3 * sample + 1, tl.where(clamp01(py) == py, v, 0.0), mask=mask)
    tl.store(out + 3 * sample + 2, tl.where(clamp01(pz) == pz, w, 0.0), mask=mask)


@triton.jit
@no_type_check
def _load_gradient(gradients, position, factor, mask, FEATURES: tl.constexpr):
    a = tl.load(gradients + position * FEATURES, mask=mask, other=0.0) * factor
    b = tl.load(gradients + position * FEATURES + 1, mask=mask, other=0.0) * factor
    if FEATURES == 4:
        c = tl.load(gradients + position * FEATURES + 2, mask=mask, other=0.0) * factor
        d = tl.load(gradients + position * FEATURES + 3, mask=mask, other=0.0) * factor
    else:
        c, d = tl.zeros_like(a), tl.zeros_like(a)
    return a, b, c, d


@triton.jit
@no_type_check
def _table_backward(
    points, footprints, gains, scales, levels, gradients, out, count,
    FEATURES: tl.constexpr, FOOTPRINTS: tl.constexpr, GAINS: tl.constexpr,
    FIXED_SCALE: tl.constexpr, VECTOR: tl.constexpr, BLOCK_SIZE: tl.constexpr, FIRST_LEVEL: tl.constexpr,
):  # fmt: skip
    # Programs of one level run close together in time, so that its part of the table is in the cache.
    sample, level = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE), tl.program_id(1) + FIRST_LEVEL
    mask = sample < count
    x, y, z, std = load_points(points, footprints, sample, mask, FOOTPRINTS)
    scale = tl.load(scales + level)
    first, size, side, hashed = level_shape(levels, level)
    gain = tl.load(gains + level) if GAINS else 1.0
    a, b, c, d = _load_gradient(gradients, level * count + sample, antialias_weight(std, gain, scale), mask, FEATURES)
    # Skip zero gradients: most samples of a trained field are in free space.
    active = mask & ((a != 0.0) | (b != 0.0) | (c != 0.0) | (d != 0.0))
    i, x = cell(x, scale)
    j, y = cell(y, scale)
    k, z = cell(z, scale)
    for corner in tl.static_range(8):
        weight = corner_weight(x, y, z, corner)
        index = table_index(i, j, k, first, size, side, hashed, corner)
        _add_entry(out, index, weight * a, weight * b, weight * c, weight * d, active, FEATURES, FIXED_SCALE, VECTOR)


@triton.jit
@no_type_check
def _table_backward_runs(
    points, footprints, gains, scales, levels, gradients, out, count,
    FEATURES: tl.constexpr, FOOTPRINTS: tl.constexpr, GAINS: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK_SIZE: tl.constexpr, RUN_LENGTH: tl.constexpr,
):  # fmt: skip
    # A thread takes one corner of a run of samples, and adds whenever the entry changes.
    lane, level = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE), tl.program_id(1)
    corner, start = lane % 8, lane // 8 * RUN_LENGTH
    scale = tl.load(scales + level)
    first, size, side, hashed = level_shape(levels, level)
    gain = tl.load(gains + level) if GAINS else 1.0
    current = tl.full([BLOCK_SIZE], -1, tl.int32)
    a, b = tl.zeros([BLOCK_SIZE], tl.float32), tl.zeros([BLOCK_SIZE], tl.float32)
    c, d = tl.zeros([BLOCK_SIZE], tl.float32), tl.zeros([BLOCK_SIZE], tl.float32)
    for step in range(RUN_LENGTH):
        sample = start + step
        mask = sample < count
        x, y, z, std = load_points(points, footprints, sample, mask, FOOTPRINTS)
        p, q, r, s = _load_gradient(
            gradients, level * count + sample, antialias_weight(std, gain, scale), mask, FEATURES
        )
        i, x = cell(x, scale)
        j, y = cell(y, scale)
        k, z = cell(z, scale)
        index = tl.where(mask, table_index(i, j, k, first, size, side, hashed, corner), current)
        changed = index != current
        active = changed & (current >= 0) & ((a != 0.0) | (b != 0.0) | (c != 0.0) | (d != 0.0))
        _add_entry(out, current, a, b, c, d, active, FEATURES, 0.0, VECTOR)
        u = tl.where(corner & 1 != 0, x, 1.0 - x)
        v = tl.where(corner & 2 != 0, y, 1.0 - y)
        w = tl.where(corner & 4 != 0, z, 1.0 - z)
        weight = u * v * w
        a, b = tl.where(changed, 0.0, a) + weight * p, tl.where(changed, 0.0, b) + weight * q
        c, d = tl.where(changed, 0.0, c) + weight * r, tl.where(changed, 0.0, d) + weight * s
        current = index
    active = (current >= 0) & ((a != 0.0) | (b != 0.0) | (c != 0.0) | (d != 0.0))
    _add_entry(out, current, a, b, c, d, active, FEATURES, 0.0, VECTOR)


@triton.jit
@no_type_check
def _add_entry(
    out, index, a, b, c, d, mask, FEATURES: tl.constexpr, FIXED_SCALE: tl.constexpr, VECTOR: tl.constexpr
):  # fmt: skip
    """Add to all features of entries."""
    target = out + index * FEATURES
    if VECTOR:
        _add_vector(target, a, b, c, d, mask, FEATURES)
    else:
        _add(target, a, mask, FIXED_SCALE)
        _add(target + 1, b, mask, FIXED_SCALE)
        if FEATURES == 4:
            _add(target + 2, c, mask, FIXED_SCALE)
            _add(target + 3, d, mask, FIXED_SCALE)


@triton.jit
@no_type_check
def _add(target, value, mask, FIXED_SCALE: tl.constexpr):
    """Add to one feature of entries, as an integer if FIXED_SCALE is positive."""
    if FIXED_SCALE > 0.0:
        tl.atomic_add(target, (value * FIXED_SCALE).to(tl.int64), mask=mask, sem="relaxed")
    else:
        tl.atomic_add(target, value, mask=mask, sem="relaxed")


@triton.jit
@no_type_check
def _add_vector(target, a, b, c, d, mask, FEATURES: tl.constexpr):
    """One vector reduction per entry (compute capability 9.0); Triton emits them only for two-dimensional tiles."""
    if FEATURES == 4:
        tl.inline_asm_elementwise(
            """{
            .reg .pred some;
            setp.ne.s32 some, $6, 0;
            @some red.relaxed.gpu.global.add.v4.f32 [$1], {$2, $3, $4, $5};
            mov.b32 $0, 0;
            }""",
            "=r,l,f,f,f,f,r", [target.to(tl.int64), a, b, c, d, mask.to(tl.int32)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        tl.inline_asm_elementwise(
            """{
            .reg .pred some;
            setp.ne.s32 some, $4, 0;
            @some red.relaxed.gpu.global.add.v2.f32 [$1], {$2, $3};
            mov.b32 $0, 0;
            }""",
            "=r,l,f,f,r", [target.to(tl.int64), a, b, mask.to(tl.int32)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
