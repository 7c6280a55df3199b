"""Numba (CPU, float32) ray marching: a tile of rays goes from proposals to colors without intermediate tensors.

Samples of a tile in occupied cells, on rays with enough transmittance, are compacted wave by wave from front to back.
Hash grid and networks evaluate only those.
"""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import get_thread_id, njit, prange  # type: ignore[attr-defined]
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.hash_grid import level_weights
from blocknerf.kernels.hash_grid.numba_impl import level_params
from blocknerf.kernels.marching.api import FieldParams
from blocknerf.kernels.marching.numba_tile import (
    RAYS,
    TRANSMITTANCE,
    WAVE,
    accumulate_ray,
    accumulate_weight,
    allocate,
    compact_samples,
    edges_to_t,
    evaluate,
    init_rays,
    optical_thickness,
    raise_stds,
    shade_samples,
    view_workspace,
    workspace_layout,
    write_rays,
)
from blocknerf.kernels.mlp.numba_layers import INDEX_ZERO, PADDED_OUT, BufferLayout, buffer_layout
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling.numba_impl import sample_ray
from blocknerf.kernels.radiance import HashGridParams
from blocknerf.kernels.threads import apply_numba_threads

CHUNK_PER_THREAD = 8
"""Tiles per unit of work of a thread."""

_ZERO, _ONE, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)


def march(
    network: FieldParams, rays: RayBundle, ray_bias: Float[Tensor, "rays hidden"], sky: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Numba version of `torch_impl.march`."""
    count = len(rays)
    threads = apply_numba_threads(max_threads=1 + count // (RAYS * CHUNK_PER_THREAD))
    results = torch.empty(count, 3), torch.empty(count), torch.empty(count)
    all_cells = torch.ones(1, 1, 1, dtype=torch.bool)
    cells = (all_cells if network.occupancy is None else network.occupancy).contiguous().numpy()
    no_limit = torch.empty(0, 0, 0)
    limits = (no_limit if network.min_std is None else network.min_std).contiguous().numpy()
    near, far = network.spacing.s_range
    geometry = np.array([*network.origin, network.half_extent, near, far - near, network.spacing.far], np.float32)
    counts = network.proposal_samples, network.samples
    colors = buffer_layout((network.color.weights[0].shape[1], *(len(bias) for bias in network.color.biases)))
    bounds = workspace_layout(counts, _layout(network.proposal), _layout(network.field), colors)
    _march(
        *(tensor.detach().contiguous().numpy() for tensor in (rays.origins, rays.directions, rays.pixel_radii)),
        _first_layer_bias(ray_bias, network.color.biases[0], colors), sky.detach().contiguous().numpy(),
        *_pack(network.proposal),
        *_pack(network.field),
        colors.pack(network.color.weights, network.color.biases), colors.layers,
        geometry, cells.reshape(-1).view(np.uint8), cells.shape[0], limits.reshape(-1), limits.shape[0],
        counts, np.float32(HISTOGRAM_PADDING / counts[0]),
        *allocate(threads, bounds), bounds,
        *(result.numpy() for result in results),
    )  # fmt: skip
    return results


def _layout(network: HashGridParams) -> BufferLayout:
    return buffer_layout((network.grid.output_dim, *(len(bias) for bias in network.biases)))


def _pack(network: HashGridParams) -> tuple[object, ...]:
    """Return table, level parameters, feature count and layers, as the kernel reads them."""
    layout, table = _layout(network), network.table.detach().contiguous().numpy()
    scales, levels = level_params(network.grid, level_weights(network.grid.num_levels, network.active_levels))
    width, parameters = (0,) * network.grid.features_per_level, layout.pack(network.weights, network.biases)
    return table, scales, levels, width, parameters, layout.layers


def _first_layer_bias(ray_bias: Tensor, bias: Tensor, colors: BufferLayout) -> np.ndarray:
    """Return each ray's bias of the color network's first layer, in padded rows."""
    biases = (ray_bias + bias).detach()
    return torch.nn.functional.pad(biases, (0, int(colors.layers[0, PADDED_OUT]) - len(bias))).reshape(-1).numpy()


# Bodies of parallel loops are separate functions, because Numba compiles such a body several times. They take signed
# indices: the loop's own are unsigned, and the functions would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _march(
    origins, directions, radii, biases, sky,
    table1, scales1, levels1, width1, parameters1, layers1,
    table2, scales2, levels2, width2, parameters2, layers2,
    parameters3, layers3,
    geometry, cells, side, limits, limits_side, counts, padding, floats, ints, bounds,
    color, depth, opacity,
):  # fmt: skip
    for chunk in prange((radii.shape[0] + CHUNK_PER_THREAD * RAYS - 1) // (CHUNK_PER_THREAD * RAYS)):
        thread = get_thread_id()
        workspace = view_workspace(floats[thread], ints[thread], bounds)
        proposal = table1, scales1, levels1, width1, parameters1, layers1
        field = table2, scales2, levels2, width2, parameters2, layers2
        _march_chunk(
            np.int64(chunk) * CHUNK_PER_THREAD * RAYS, origins, directions, radii, biases, sky, proposal, field,
            (parameters3, layers3), geometry, (cells, side, limits, limits_side), counts, padding, workspace,
            color, depth, opacity,
        )  # fmt: skip


@njit(error_model="numpy")
@no_type_check
def _march_chunk(
    first, origins, directions, radii, biases, sky, proposal, field, colors, geometry, grids, counts, padding,
    workspace, color, depth, opacity,
):  # fmt: skip
    """March the rays of a few tiles."""
    uniform_edges, edges, state, distances, weights = (
        workspace.uniform_edges, workspace.edges, workspace.state, workspace.distances, workspace.weights
    )  # fmt: skip
    for slot in range(uniform_edges.shape[0]):
        uniform_edges[slot] = np.float32(slot // RAYS) / np.float32(counts[0])
    for start in range(first, min(first + CHUNK_PER_THREAD * RAYS, radii.shape[0]), RAYS):
        init_rays(start, origins, directions, radii, geometry, state)
        edges_to_t(uniform_edges, geometry, distances)
        _march_tile(proposal, counts[0], geometry, grids, workspace, False)
        for lane in range(RAYS):
            total = _ONE - state[TRANSMITTANCE * RAYS + lane]  # the absorbed fraction is the sum of weights
            sample_ray(
                uniform_edges[lane::RAYS],
                weights[lane : counts[0] * RAYS : RAYS],
                total,
                _HALF,
                padding,
                edges[lane::RAYS],
            )
            state[TRANSMITTANCE * RAYS + lane] = _ONE if start + lane < radii.shape[0] else _ZERO
        edges_to_t(edges, geometry, distances)
        total = _march_tile(field, counts[1], geometry, grids, workspace, True)
        accumulate_ray(counts[1], weights, distances, state)
        shade_samples(colors, total, biases[start * colors[1][0, PADDED_OUT] :], workspace)
        write_rays(start, sky, geometry, state, color, depth, opacity)


@njit(error_model="numpy")
@no_type_check
def _march_tile(network, samples, geometry, grids, workspace, keep_features):
    """Compute sample weights of a tile, front to back. Return how many samples were evaluated and kept."""
    total, thickness = INDEX_ZERO, workspace.thickness
    cells, side, limits, limits_side = grids
    for first in range(0, samples, WAVE):
        last, count = min(first + WAVE, samples), INDEX_ZERO
        for sample in range(first, last):
            count = compact_samples(sample, cells, side, workspace, count, total)
        for slot in range(first * RAYS, last * RAYS):
            thickness[slot] = _ZERO
        if count:
            if limits_side:
                raise_stds(count, limits, limits_side, workspace)
            evaluate(network, count, workspace, total, keep_features)
            optical_thickness(count, total, _ONE / geometry[3], workspace)
        for sample in range(first, last):
            accumulate_weight(sample, thickness, workspace.state, workspace.weights)
        total += count if keep_features else 0
    return total
