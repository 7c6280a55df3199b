"""The hash grid in Triton for a GPU.

Forward, a program takes a run of samples through all levels. Backward to the table, a program takes one level of a run
of samples and adds to entries by atomics that return nothing and order nothing: on compute capability 9.0 one a corner
for all features of an entry, before it one a feature. Where cells are wide, neighbors along rays often share their
entries, and are summed before. The order of atomics is the hardware's, so sums differ in the last bits from run to run;
with PyTorch's deterministic algorithms on, they are added as whole numbers, which have no such order.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.backends import TRITON_INTERPRET
from blocknerf.kernels.hash_grid.spec import GridSpec
from blocknerf.kernels.hash_grid.triton_cells import (
    cell,
    clamp,
    entry,
    facts,
    fade,
    features,
    interpolate,
    packed,
    place,
    shape,
    share,
)
from blocknerf.kernels.precision import FIXED_POINT, STORAGE_DTYPE
from blocknerf.kernels.triton_ops import capability

BLOCK = 1024 if TRITON_INTERPRET else 128
"""Samples of a program, one a thread: with more, Triton lays out strided and contiguous reads differently."""
RUN = 8
"""Samples, most of them one behind the other on a ray, of which one thread sums up what reaches a corner."""
SHARED_RESOLUTION = 64
"""Of levels up to this, samples next to each other often share their cell: in a street, a quarter of them at 64."""


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None,
    gains: Float[Tensor, "levels"] | None,
    half: Float16[Tensor, "entries features"] | None = None,
) -> Float[Tensor, "points encoded"]:
    """What `reference.encode` gives from a table rounded to half precision, which `half` may hold already."""
    return _Encode.apply(points.contiguous(), table, footprints, gains, half, spec)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, footprints: Any, gains: Any, half: Any, spec: Any) -> Tensor:
        ctx.spec, ctx.half = spec, halved(table, half)
        out = points.new_empty(len(points), spec.output_dim)
        _launch(_forward, spec, points, footprints, gains, packed(ctx.half), out, LEVELS=spec.num_levels)
        ctx.save_for_backward(points, table, footprints, gains)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        points, _, footprints, gains = ctx.saved_tensors
        # Level by level, as the kernels read them.
        planes = gradients.view(-1, ctx.spec.num_levels, ctx.spec.features_per_level).transpose(0, 1).contiguous()
        to_points = to_table = None
        if ctx.needs_input_grad[0]:
            to_points = slopes(points, footprints, gains, ctx.half, planes, ctx.spec)
        if ctx.needs_input_grad[1]:
            to_table = scatter(points, footprints, gains, planes, ctx.spec)
        return to_points, to_table, None, None, None, None


def halved(table: Tensor, half: Tensor | None) -> Tensor:
    """The table in half precision: the copy that there is, or a new one."""
    return table.detach().to(STORAGE_DTYPE) if half is None else half


def slopes(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    gains: Float[Tensor, "levels"] | None,
    half: Float16[Tensor, "entries features"],
    gradients: Float[Tensor, "levels points features"],
    spec: GridSpec,
) -> Float[Tensor, "points 3"]:
    """Gradients of points from those of what they are encoded by."""
    out = torch.empty_like(points)
    _launch(_to_points, spec, points, footprints, gains, packed(half), gradients, out, LEVELS=spec.num_levels)
    return out


def scatter(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    gains: Float[Tensor, "levels"] | None,
    gradients: Float[Tensor, "levels points features"],
    spec: GridSpec,
) -> Float[Tensor, "entries features"]:
    """Gradient of a table from those of what points are encoded by."""
    fixed = torch.are_deterministic_algorithms_enabled()
    out = gradients.new_zeros(spec.num_entries, spec.features_per_level, dtype=torch.int64 if fixed else torch.float32)
    vector = not fixed and capability(points.device) >= (9, 0)
    # Whole numbers may be added in any order; what is summed before would depend on who is whose neighbor.
    wide = 0 if fixed else sum(resolution <= SHARED_RESOLUTION for resolution in spec.resolutions)
    given = (spec, points, footprints, gains, gradients, out)
    if wide:
        _launch(_runs_to_table, *given, planes=wide, width=BLOCK * RUN // 8, RUN=RUN, VECTOR=vector)
    if wide < spec.num_levels:
        _launch(
            _to_table,
            *given,
            planes=spec.num_levels - wide,
            FIRST=wide,
            FIXED=FIXED_POINT if fixed else 0.0,
            VECTOR=vector,
        )
    return out.to(torch.float32) / FIXED_POINT if fixed else out


def _launch(
    kernel: Any,
    spec: GridSpec,
    points: Tensor,
    footprints: Any,
    gains: Any,
    *more: Tensor,
    planes: int = 1,
    width: int = BLOCK,
    **kind: Any,
) -> None:
    if not len(points):
        return
    grid = (triton.cdiv(len(points), width), planes)
    sizes = {"FEATURES": spec.features_per_level, "BLOCK": BLOCK}
    given = {"SPREAD": footprints is not None, "GAINS": gains is not None}
    kernel[grid](points, footprints, gains, *facts(spec, points.device), *more, len(points), **sizes, **given, **kind)


@triton.jit
@no_type_check
def _forward(
    points, footprints, gains, scales, levels, words, out, count,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, SPREAD: tl.constexpr, GAINS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = sample < count
    x, y, z, spread = place(points, footprints, sample, mask, SPREAD)
    for level in range(LEVELS):
        gain = tl.load(gains + level) if GAINS else 1.0
        factor = fade(spread, gain, tl.load(scales + level))
        a, b, c, d = interpolate(x, y, z, factor, words, scales, levels, level, mask, FEATURES)
        row = out + (sample * LEVELS + level) * FEATURES
        tl.store(row, a, mask=mask)
        tl.store(row + 1, b, mask=mask)
        if FEATURES == 4:
            tl.store(row + 2, c, mask=mask)
            tl.store(row + 3, d, mask=mask)


@triton.jit
@no_type_check
def _to_points(
    points, footprints, gains, scales, levels, words, gradients, out, count,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, SPREAD: tl.constexpr, GAINS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = sample < count
    px, py, pz, spread = place(points, footprints, sample, mask, SPREAD)
    u, v, w = tl.zeros_like(px), tl.zeros_like(px), tl.zeros_like(px)
    for level in range(LEVELS):
        scale = tl.load(scales + level)
        first, size, side, hashed = shape(levels, level)
        gain = tl.load(gains + level) if GAINS else 1.0
        i, x = cell(px, scale)
        j, y = cell(py, scale)
        k, z = cell(pz, scale)
        a, b, c, d = _slope(gradients, level * count + sample, fade(spread, gain, scale) * scale, mask, FEATURES)
        for corner in tl.static_range(8):
            p, q, r, s = features(words, entry(i, j, k, first, size, side, hashed, corner), mask, FEATURES)
            dot = a * p + b * q + c * r + d * s
            # The derivative of a corner's weight along an axis: its sign, times what it weighs along the others.
            wx = x if corner & 1 else 1.0 - x
            wy = y if (corner >> 1) & 1 else 1.0 - y
            wz = z if corner >> 2 else 1.0 - z
            u += dot * wy * wz if corner & 1 else -dot * wy * wz
            v += dot * wx * wz if (corner >> 1) & 1 else -dot * wx * wz
            w += dot * wx * wy if corner >> 2 else -dot * wx * wy
    # The gradient of torch.clamp: one on the cube and its faces, zero outside.
    tl.store(out + 3 * sample, tl.where(clamp(px) == px, u, 0.0), mask=mask)
    tl.store(out + 3 * sample + 1, tl.where(clamp(py) == py, v, 0.0), mask=mask)
    tl.store(out + 3 * sample + 2, tl.where(clamp(pz) == pz, w, 0.0), mask=mask)


@triton.jit
@no_type_check
def _slope(gradients, place, factor, mask, FEATURES: tl.constexpr):
    a = tl.load(gradients + place * FEATURES, mask=mask, other=0.0) * factor
    b = tl.load(gradients + place * FEATURES + 1, mask=mask, other=0.0) * factor
    if FEATURES == 4:
        c = tl.load(gradients + place * FEATURES + 2, mask=mask, other=0.0) * factor
        d = tl.load(gradients + place * FEATURES + 3, mask=mask, other=0.0) * factor
    else:
        c, d = tl.zeros_like(a), tl.zeros_like(a)
    return a, b, c, d


@triton.jit
@no_type_check
def _to_table(
    points, footprints, gains, scales, levels, gradients, out, count,
    FEATURES: tl.constexpr, SPREAD: tl.constexpr, GAINS: tl.constexpr,
    FIXED: tl.constexpr, VECTOR: tl.constexpr, BLOCK: tl.constexpr, FIRST: tl.constexpr,
):  # fmt: skip
    # Programs of one level run about together, so that its part of the table is in the cache.
    sample, level = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) + FIRST
    mask = sample < count
    x, y, z, spread = place(points, footprints, sample, mask, SPREAD)
    scale = tl.load(scales + level)
    first, size, side, hashed = shape(levels, level)
    gain = tl.load(gains + level) if GAINS else 1.0
    a, b, c, d = _slope(gradients, level * count + sample, fade(spread, gain, scale), mask, FEATURES)
    # What adds nothing is not sent: most samples of a trained field stand in the clear.
    some = mask & ((a != 0.0) | (b != 0.0) | (c != 0.0) | (d != 0.0))
    i, x = cell(x, scale)
    j, y = cell(y, scale)
    k, z = cell(z, scale)
    for corner in tl.static_range(8):
        weight = share(x, y, z, corner)
        at = entry(i, j, k, first, size, side, hashed, corner)
        _add_entry(out, at, weight * a, weight * b, weight * c, weight * d, some, FEATURES, FIXED, VECTOR)


@triton.jit
@no_type_check
def _runs_to_table(
    points, footprints, gains, scales, levels, gradients, out, count,
    FEATURES: tl.constexpr, SPREAD: tl.constexpr, GAINS: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    # A thread takes one corner of a run of samples, and adds when it comes to another entry.
    lane, level = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1)
    corner, start = lane % 8, lane // 8 * RUN
    scale = tl.load(scales + level)
    first, size, side, hashed = shape(levels, level)
    gain = tl.load(gains + level) if GAINS else 1.0
    held = tl.full([BLOCK], -1, tl.int32)
    a, b = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    c, d = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for step in range(RUN):
        sample = start + step
        mask = sample < count
        x, y, z, spread = place(points, footprints, sample, mask, SPREAD)
        p, q, r, s = _slope(gradients, level * count + sample, fade(spread, gain, scale), mask, FEATURES)
        i, x = cell(x, scale)
        j, y = cell(y, scale)
        k, z = cell(z, scale)
        at = tl.where(mask, entry(i, j, k, first, size, side, hashed, corner), held)
        left = at != held
        some = left & (held >= 0) & ((a != 0.0) | (b != 0.0) | (c != 0.0) | (d != 0.0))
        _add_entry(out, held, a, b, c, d, some, FEATURES, 0.0, VECTOR)
        u = tl.where(corner & 1 != 0, x, 1.0 - x)
        v = tl.where(corner & 2 != 0, y, 1.0 - y)
        w = tl.where(corner & 4 != 0, z, 1.0 - z)
        weight = u * v * w
        a, b = tl.where(left, 0.0, a) + weight * p, tl.where(left, 0.0, b) + weight * q
        c, d = tl.where(left, 0.0, c) + weight * r, tl.where(left, 0.0, d) + weight * s
        held = at
    some = (held >= 0) & ((a != 0.0) | (b != 0.0) | (c != 0.0) | (d != 0.0))
    _add_entry(out, held, a, b, c, d, some, FEATURES, 0.0, VECTOR)


@triton.jit
@no_type_check
def _add_entry(
    out, at, a, b, c, d, mask, FEATURES: tl.constexpr, FIXED: tl.constexpr, VECTOR: tl.constexpr
):  # fmt: skip
    """Add to all features of entries."""
    target = out + at * FEATURES
    if VECTOR:
        _add_vector(target, a, b, c, d, mask, FEATURES)
    else:
        _add(target, a, mask, FIXED)
        _add(target + 1, b, mask, FIXED)
        if FEATURES == 4:
            _add(target + 2, c, mask, FIXED)
            _add(target + 3, d, mask, FIXED)


@triton.jit
@no_type_check
def _add(target, value, mask, FIXED: tl.constexpr):
    """Add to a feature of entries, as a whole number where asked to."""
    if FIXED > 0.0:
        tl.atomic_add(target, (value * FIXED).to(tl.int64), mask=mask, sem="relaxed")
    else:
        tl.atomic_add(target, value, mask=mask, sem="relaxed")


@triton.jit
@no_type_check
def _add_vector(target, a, b, c, d, mask, FEATURES: tl.constexpr):
    """One vector reduction an entry (compute capability 9.0); Triton makes them of two-dimensional tiles only."""
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
