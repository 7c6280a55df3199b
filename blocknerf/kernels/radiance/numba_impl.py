"""The operation in Numba for the processor, float32: from points to densities and colors with no tensor in between.

Forward, tiles of samples are encoded level by level, then go through the networks in smaller ones; only the encoded
features stay for the way back. Backward computes the networks' activations again and leaves the gradients of features
in planes, one a level, in the order in which the scatter of the hash grid reads them. Sums have one order (see `mlp`).
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import get_thread_id, njit, prange  # type: ignore[attr-defined]
from torch import Tensor

from blocknerf.kernels.hash_grid import GridSpec, level_weights
from blocknerf.kernels.hash_grid.api import check_table
from blocknerf.kernels.hash_grid.numba_corners import CHUNK
from blocknerf.kernels.hash_grid.numba_impl import FLOATS, INDEXES, encode_tile, level_facts
from blocknerf.kernels.hash_grid.numba_impl import TILE as ENCODED
from blocknerf.kernels.hash_grid.numba_impl import backward as grid_backward
from blocknerf.kernels.mlp.api import check_shapes
from blocknerf.kernels.mlp.buffer_layout import INPUT_ROOM, TILE, Layout, layout
from blocknerf.kernels.mlp.tile import CHUNKS
from blocknerf.kernels.radiance.numba_tiles import HUES, back_through_part, through_networks
from blocknerf.kernels.radiance.params import ColorParams, HashGridParams
from blocknerf.kernels.threads import apply_numba_threads

LINE = 16
"""Floats of a cache line."""
HUED = FLOATS + HUES
"""Numbers of scratch beside the networks'."""


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"],
    half_extent: float,
    fade: Float[Tensor, "points"] | None,
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """What `layered.radiance` gives, by compiled loops."""
    check_table(field.table, field.grid)
    check_shapes(len(points), field.grid.output_dim, field.weights, field.biases, None)
    check_shapes(len(points), len(field.biases[-1]), color.weights, color.biases, row_bias)
    nothing = points.new_empty(0)
    spread = nothing if footprints is None else footprints.detach().contiguous()
    fades = nothing if fade is None else fade.detach().contiguous()
    gains = level_weights(field.grid.num_levels, field.active_levels)
    counts = len(field.weights), len(color.weights)
    layers = (*field.weights, *field.biases, *color.weights, *color.biases)
    place = points.contiguous(), spread, fades, row_bias.contiguous(), field.table.contiguous()
    return _Radiance.apply((field.grid, gains, counts, half_extent), *place, *layers)


class _Radiance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, facts: tuple[GridSpec, tuple[float, ...], tuple[int, int], float], points: Tensor, spread: Tensor,
        fades: Tensor, rows: Tensor, table: Tensor, *layers: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        grid, gains, counts, half_extent = facts
        plans, packed = _plans(grid, counts, layers)
        encoded = _lines(len(points) + TILE, int(plans[0].layers[0, INPUT_ROOM]))
        encoded[len(points) :] = 0.0
        threads = apply_numba_threads()
        floats = _lines(threads, HUED + plans[0].activations + plans[1].activations)
        density, color = points.new_empty(len(points)), points.new_empty(len(points), 3)
        _forward(
            *(tensor.detach().numpy() for tensor in (points, table, spread)),
            *level_facts(grid, gains), (0,) * grid.features_per_level, rows.detach().numpy(),
            packed[0], plans[0].layers, packed[1], plans[1].layers, plans[0].activations,
            np.float32(1.0 / half_extent), floats, np.empty((threads, INDEXES), np.int32),
            encoded, density.numpy(), color.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(points, spread, fades, rows, table, density, color)
        ctx.facts, ctx.plans, ctx.packed, ctx.encoded = facts, plans, packed, encoded
        return density, color

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_density: Tensor, to_color: Tensor) -> tuple[Tensor | None, ...]:
        points, spread, fades, rows, table, density, color = ctx.saved_tensors
        grid, gains, _, _ = ctx.facts
        field, tint = ctx.plans
        needs = ctx.needs_input_grad
        learns, deep = any(needs[6:]), needs[1] or needs[5]  # neither where a code is fitted to frozen weights
        to_rows = torch.empty_like(rows) if len(points) else torch.zeros_like(rows)
        sums = tuple(np.empty((CHUNKS, plan.gradients), np.float32) for plan in ctx.plans)
        planes = np.empty((grid.num_levels, len(points) * grid.features_per_level if deep else 0), np.float32)
        room = TILE * max(field.widest, tint.widest)
        _backward(
            ctx.encoded, (0,) * grid.features_per_level, rows.detach().numpy(),
            ctx.packed[0], field.layers, ctx.packed[1], tint.layers, field.activations,
            fades.numpy(), density.detach().numpy(), color.detach().numpy(),
            to_density.contiguous().numpy(), to_color.contiguous().numpy(),
            _lines(apply_numba_threads(), 2 * room + field.activations + tint.activations), room,
            planes, to_rows.numpy(), *sums, learns, deep,
        )  # fmt: skip
        to_points, to_table = grid_backward(points, table, spread, grid, gains, planes, (needs[1], needs[5]))
        layers = _unpacked(ctx.plans, sums) if learns else [None] * len(needs[6:])
        return None, to_points, None, None, to_rows if needs[4] else None, to_table, *layers


def _plans(
    grid: GridSpec, counts: tuple[int, int], layers: tuple[Tensor, ...]
) -> tuple[tuple[Layout, Layout], tuple[np.ndarray, np.ndarray]]:
    """Layout and packed parameters of the grid's network and of the color network."""
    first, second = counts
    weights, biases = layers[:first], layers[first : 2 * first]
    tints, shifts = layers[2 * first : 2 * first + second], layers[2 * first + second :]
    field = layout((grid.output_dim, *(len(bias) for bias in biases)))
    color = layout((len(biases[-1]), *(len(bias) for bias in shifts)))
    return (field, color), (field.pack(weights, biases), color.pack(tints, shifts))


def _unpacked(plans: tuple[Layout, Layout], sums: tuple[np.ndarray, ...]) -> list[Tensor]:
    """Gradients of all layers, in the order of the arguments, from those of the parts of the samples."""
    groups = [group for plan, parts in zip(plans, sums, strict=True) for group in plan.unpack(parts.sum(0))]
    return [torch.from_numpy(array) for group in groups for array in group]


def _lines(rows: int, width: int) -> np.ndarray:
    """Rows of floats, the first of which starts on a cache line, or every other vector read would touch two."""
    floats = np.empty(rows * width + LINE, np.float32)
    first = (-(floats.ctypes.data // floats.itemsize)) % LINE
    return floats[first : first + rows * width].reshape(rows, width)


# The bodies of parallel loops are functions of their own, since Numba compiles what stands in such a loop several times
# over, and are given signed indexes: the loop has unsigned ones within, and they would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _forward(
    points, table, spread, scales, levels, width, rows, parameters, layers, tints, tint_layers, most, scale, floats,
    index, encoded, density, color,
):  # fmt: skip
    for tile in prange((points.shape[0] + ENCODED * CHUNK - 1) // (ENCODED * CHUNK)):
        thread, first = get_thread_id(), np.int64(tile) * ENCODED * CHUNK
        corners, hues, room = floats[thread, :FLOATS], floats[thread, FLOATS:HUED], floats[thread, HUED:]
        encode_tile(first, points, table, spread, scales, levels, encoded, width, corners, index[thread])
        through_networks(
            first, min(first + ENCODED * CHUNK, points.shape[0]), encoded, rows,
            (parameters, layers, room[:most]), (tints, tint_layers, room[most:]), hues, scale, density, color,
        )  # fmt: skip


@njit(parallel=True, cache=True)
@no_type_check
def _backward(
    encoded, width, rows, parameters, layers, tints, tint_layers, most, fades, density, color, to_density, to_color,
    floats, room, planes, to_rows, field_sums, tint_sums, learns, deep,
):  # fmt: skip
    for chunk in prange(CHUNKS):
        scratch = floats[get_thread_id()]
        above, below, rest = scratch[:room], scratch[room : 2 * room], scratch[2 * room :]
        back_through_part(
            np.int64(chunk), encoded, width, rows, (parameters, layers, rest[:most]),
            (tints, tint_layers, rest[most:]), fades, density, color, to_density, to_color, above, below, planes,
            to_rows, field_sums[chunk], tint_sums[chunk], learns, deep,
        )  # fmt: skip
