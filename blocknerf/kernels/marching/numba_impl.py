"""Marching in Numba for the processor, float32: a tile of rays goes from proposals to colors with no tensor in between.

Samples of a tile that count - not empty, on a ray that light still passes - are gathered wave by wave from front to
back, and grid and networks see only those, as densely as if all counted.
"""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import get_thread_id, njit, prange  # type: ignore[attr-defined]
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.hash_grid import level_weights
from blocknerf.kernels.hash_grid.numba_impl import level_facts
from blocknerf.kernels.marching.evaluation import color_samples, evaluate, thicken
from blocknerf.kernels.marching.params import FieldParams
from blocknerf.kernels.marching.ray_simd import (
    LIGHT,
    RAYS,
    absorb,
    add_up,
    finish_rays,
    gather,
    spread_edges,
    start_rays,
)
from blocknerf.kernels.marching.workspace import WAVE, allocate, carve, places
from blocknerf.kernels.mlp.buffer_layout import OUTPUT_ROOM, Layout, layout
from blocknerf.kernels.mlp.tile import INDEX_ZERO
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling.numba_impl import sample_ray
from blocknerf.kernels.radiance import HashGridParams
from blocknerf.kernels.threads import apply_numba_threads

SPAN = 8
"""Tiles that a thread takes at once."""

_ZERO, _ONE, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)


def march(
    network: FieldParams, rays: RayBundle, row_bias: Float[Tensor, "rays hidden"], sky: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """What `reference.march` gives, by compiled loops."""
    count = len(rays)
    threads = apply_numba_threads(most=1 + count // (RAYS * SPAN))
    results = torch.empty(count, 3), torch.empty(count), torch.empty(count)
    full = torch.ones(1, 1, 1, dtype=torch.bool)
    cells = (full if network.occupancy is None else network.occupancy).contiguous().numpy()
    near, far = network.spacing.s_range
    place = np.array([*network.origin, network.half_extent, near, far - near, network.spacing.far], np.float32)
    counts = network.proposal_samples, network.samples
    colors = layout((network.color.weights[0].shape[1], *(len(bias) for bias in network.color.biases)))
    layout_of_scratch = places(counts, _plan(network.proposal), _plan(network.field), colors)
    _march(
        *(tensor.detach().contiguous().numpy() for tensor in (rays.origins, rays.directions, rays.pixel_radii)),
        _biases(row_bias, network.color.biases[0], colors), sky.detach().contiguous().numpy(),
        *_packed(network.proposal),
        *_packed(network.field),
        colors.pack(network.color.weights, network.color.biases), colors.layers,
        place, cells.reshape(-1).view(np.uint8), cells.shape[0], counts, np.float32(HISTOGRAM_PADDING / counts[0]),
        *allocate(threads, layout_of_scratch), layout_of_scratch,
        *(result.numpy() for result in results),
    )  # fmt: skip
    return results


def _plan(part: HashGridParams) -> Layout:
    return layout((part.grid.output_dim, *(len(bias) for bias in part.biases)))


def _packed(part: HashGridParams) -> tuple[object, ...]:
    """The table, its levels and features, and the layers, as the kernel reads them."""
    plan, table = _plan(part), part.table.detach().contiguous().numpy()
    scales, levels = level_facts(part.grid, level_weights(part.grid.num_levels, part.active_levels))
    return table, scales, levels, (0,) * part.grid.features_per_level, plan.pack(part.weights, part.biases), plan.layers


def _biases(row_bias: Tensor, bias: Tensor, colors: Layout) -> np.ndarray:
    """What is added to the first layer of each ray's colors, in rows as wide as the kernel's."""
    biases = (row_bias + bias).detach()
    return torch.nn.functional.pad(biases, (0, int(colors.layers[0, OUTPUT_ROOM]) - len(bias))).reshape(-1).numpy()


# The bodies of parallel loops are functions of their own, since Numba compiles what stands in such a loop several times
# over, and are given signed indexes: the loop has unsigned ones within, and they would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _march(
    origins, directions, radii, biases, sky,
    table1, scales1, levels1, width1, parameters1, layers1,
    table2, scales2, levels2, width2, parameters2, layers2,
    parameters3, layers3,
    place, cells, side, counts, padding, floats, whole, places,
    color, depth, opacity,
):  # fmt: skip
    for span in prange((radii.shape[0] + SPAN * RAYS - 1) // (SPAN * RAYS)):
        thread = get_thread_id()
        scratch = carve(floats[thread], whole[thread], places)
        proposal = table1, scales1, levels1, width1, parameters1, layers1
        field = table2, scales2, levels2, width2, parameters2, layers2
        _march_span(
            np.int64(span) * SPAN * RAYS, origins, directions, radii, biases, sky, proposal, field,
            (parameters3, layers3), place, cells, side, counts, padding, scratch, color, depth, opacity,
        )  # fmt: skip


@njit(error_model="numpy")
@no_type_check
def _march_span(
    first, origins, directions, radii, biases, sky, proposal, field, colors, place, cells, side, counts, padding,
    scratch, color, depth, opacity,
):  # fmt: skip
    """Follow the rays of a few tiles."""
    even, edges, lanes, distances, weights = (
        scratch.even, scratch.edges, scratch.lanes, scratch.distances, scratch.weights
    )  # fmt: skip
    for slot in range(even.shape[0]):
        even[slot] = np.float32(slot // RAYS) / np.float32(counts[0])
    for start in range(first, min(first + SPAN * RAYS, radii.shape[0]), RAYS):
        start_rays(start, origins, directions, radii, place, lanes)
        spread_edges(even, place, distances)
        _follow(proposal, counts[0], place, cells, side, scratch, False)
        for lane in range(RAYS):
            total = _ONE - lanes[LIGHT * RAYS + lane]  # what light has not passed has been absorbed
            sample_ray(
                even[lane::RAYS], weights[lane : counts[0] * RAYS : RAYS], total, _HALF, padding, edges[lane::RAYS]
            )
            lanes[LIGHT * RAYS + lane] = _ONE if start + lane < radii.shape[0] else _ZERO
        spread_edges(edges, place, distances)
        total = _follow(field, counts[1], place, cells, side, scratch, True)
        add_up(counts[1], weights, distances, lanes)
        color_samples(colors, total, biases[start * colors[1][0, OUTPUT_ROOM] :], scratch)
        finish_rays(start, sky, place, lanes, color, depth, opacity)


@njit(error_model="numpy")
@no_type_check
def _follow(part, samples, place, cells, side, scratch, keep):
    """Weigh the samples of a tile front to back; gives how many were evaluated and kept."""
    total, thickness = INDEX_ZERO, scratch.thickness
    for first in range(0, samples, WAVE):
        last, count = min(first + WAVE, samples), INDEX_ZERO
        for sample in range(first, last):
            count = gather(sample, cells, side, scratch, count, total)
        for slot in range(first * RAYS, last * RAYS):
            thickness[slot] = _ZERO
        if count:
            evaluate(part, count, scratch, total, keep)
            thicken(count, total, _ONE / place[3], scratch)
        for sample in range(first, last):
            absorb(sample, thickness, scratch.lanes, scratch.weights)
        total += count if keep else 0
    return total
