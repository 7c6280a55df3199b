"""The fused radiance operation on the CPU against separate kernels: `python -m tests.benchmarks.radiance`.

The draft field (8 levels x 4 features, MLPs 32 wide), 2,048 rays of 24 samples, forward and backward to all parameters.
Both variants alternate with their lower bounds, so that other load slows all: gather and scatter of the grid alone, and
matrix products from the L1 cache.
"""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numba import njit, prange  # noqa: E402
from torch import Tensor  # noqa: E402

from blocknerf.kernels.hash_grid import GridSpec, encode, level_weights  # noqa: E402
from blocknerf.kernels.hash_grid.numba_impl import backward as grid_backward  # noqa: E402
from blocknerf.kernels.mlp.numba_layers import TILE, BufferLayout, buffer_layout  # noqa: E402
from blocknerf.kernels.mlp.numba_matmul import ROWS, matmul  # noqa: E402
from blocknerf.kernels.numba_ops import aligned_empty  # noqa: E402
from blocknerf.kernels.radiance import ColorParams, HashGridParams, radiance, torch_impl  # noqa: E402

RAYS, SAMPLES, HIDDEN, FEATURES, REPEATS = 2048, 24, 32, 16, 15
TABLES = (16, 17)
"""log2 of the entries per level; the draft preset has the second."""
HALF_EXTENT, PRODUCTS = 20.0, 2000

Pass = Callable[[], tuple[float, float]]


def samples_along_rays() -> tuple[Tensor, Tensor]:
    """Return points along rays from the center of the cube, and footprints that grow along the ray."""
    generator = torch.Generator().manual_seed(0)
    origins = 0.35 + 0.3 * torch.rand(RAYS, 1, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(RAYS, 1, 3, generator=generator), dim=-1)
    distances = torch.linspace(0.005, 0.5, SAMPLES)
    points = (origins + distances[:, None] * directions).clamp(0, 1).reshape(-1, 3)
    return points.contiguous(), (0.002 * distances).repeat(RAYS)


def layers(*widths: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return weights and biases of an MLP with these widths."""
    linear = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
    return tuple(layer.weight for layer in linear), tuple(layer.bias for layer in linear)


def variants(log2_hashmap_size: int) -> dict[str, Pass]:
    """Return the fused and the separate step and their parts; each call returns forward and backward milliseconds."""
    grid = GridSpec(
        num_levels=8, features_per_level=4, log2_hashmap_size=log2_hashmap_size, base_resolution=16, max_resolution=2048
    )
    table = (0.1 * (torch.rand(grid.num_entries, grid.features_per_level) - 0.5)).requires_grad_()
    weights, biases = layers(grid.output_dim, HIDDEN, FEATURES)
    field = HashGridParams(grid=grid, table=table, weights=weights, biases=biases)
    color = ColorParams(**dict(zip(("weights", "biases"), layers(FEATURES, HIDDEN, HIDDEN, 3), strict=True)))
    rows = torch.randn(RAYS, HIDDEN).requires_grad_()
    leaves = [table, *weights, *biases, *color.weights, *color.biases, rows]
    points, footprints = samples_along_rays()
    fade, output_gradients = torch.rand(len(points)), (torch.randn(len(points)), torch.randn(len(points), 3))
    planes = np.ones((grid.num_levels, len(points) * grid.features_per_level), np.float32)
    inputs = field, color, points, footprints, rows

    def step(run: Callable[[], tuple[Tensor, Tensor]]) -> tuple[float, float]:
        outputs: list[Tensor] = []
        return timed(lambda: outputs.extend(run())), timed(
            lambda: torch.autograd.grad(outputs, leaves, output_gradients)
        )

    def grid_alone() -> tuple[float, float]:
        gains = level_weights(grid.num_levels, None)
        back = points, table, footprints, grid, gains, planes, (False, True)
        return timed(lambda: encode(points, table.detach(), grid, footprints, "numba")), timed(
            lambda: grid_backward(*back)
        )

    return {
        "separate": lambda: step(lambda: torch_impl.radiance(*inputs, HALF_EXTENT, fade, "numba")),
        "fused": lambda: step(lambda: radiance(*inputs, half_extent=HALF_EXTENT, gradient_scale=fade, backend="numba")),
        "grid": grid_alone,
        "products": products_alone,
    }


def timed(run: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def products_alone() -> tuple[float, float]:
    """Return the milliseconds of the matrix products at the rate of matrices in the L1 cache."""
    plans = buffer_layout((32, HIDDEN, FEATURES)), buffer_layout((FEATURES, HIDDEN, HIDDEN, 3))
    forward, backward = (sum(column) for column in zip(*map(multiplications, plans), strict=True))
    rate = THREADS * PRODUCTS * TILE * HIDDEN * HIDDEN / timed(lambda: _multiply(THREADS, PRODUCTS))
    return RAYS * SAMPLES * forward / rate, RAYS * SAMPLES * backward / rate


def multiplications(plan: BufferLayout) -> tuple[int, int]:
    """Return multiplications per sample, forward and backward (recomputation and gradients), padding included."""
    forward = backward = 0
    shapes = plan.layers[:, :4].tolist()
    for inputs, outputs, padded_in, padded_out in shapes:
        forward += inputs * padded_out
        backward += inputs * padded_out + (-(-outputs // ROWS) * ROWS + outputs) * padded_in
    return forward, backward


@njit(parallel=True)
def _multiply(threads, repeats):
    for thread in prange(threads):  # noqa: B007
        a, b, c = aligned_empty(TILE * HIDDEN), aligned_empty(HIDDEN * HIDDEN), aligned_empty(TILE * HIDDEN)
        a[:], b[:], c[:] = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for repeat in range(repeats):  # noqa: B007
            matmul(a, 0, HIDDEN, 1, b, 0, b, 0, 0, c, 0, TILE, HIDDEN, HIDDEN)


def measure(log2_hashmap_size: int) -> dict[str, float]:
    """Print a table and return the samples/s of each variant, and the ratios of the fused one."""
    passes = variants(log2_hashmap_size)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for repeat in range(REPEATS + 2):
        for name, run in passes.items():
            milliseconds = run()
            if repeat > 1:  # the first passes compile
                times[name].append(milliseconds)
    count, rates = RAYS * SAMPLES, {}
    for name, pairs in times.items():
        forward, backward = (median(values) for values in zip(*pairs, strict=True))
        best = 1e3 * count / min(map(sum, pairs))
        rates[name] = 1e3 * count / (forward + backward)
        print(f"2^{log2_hashmap_size:<7}{name:<10}{forward:>12.2f}{backward:>13.2f}{rates[name]:>14,.0f}{best:>14,.0f}")
    ratios = [sum(separate) / sum(fused) for separate, fused in zip(times["separate"], times["fused"], strict=True)]
    bound = 1.0 / (1.0 / rates["grid"] + 1.0 / rates["products"])
    return rates | {"ratio": median(ratios), "bound": bound, "fraction_of_bound": rates["fused"] / bound}


def main() -> None:
    """Print a table and one line of JSON."""
    print(f"{RAYS * SAMPLES} samples, {THREADS} threads, medians of {REPEATS}")
    print(f"{'entries':<9}{'variant':<10}{'forward ms':>12}{'backward ms':>13}{'samples/s':>14}{'best':>14}")
    summary = {f"2^{log2_hashmap_size}": measure(log2_hashmap_size) for log2_hashmap_size in TABLES}
    for name, result in summary.items():
        print(
            f"{name}: the fused step is {result['ratio']:.2f} times as fast as separate kernels and reaches "
            f"{result['fraction_of_bound']:.0%} of the {result['bound']:,.0f} samples/s bound of its parts"
        )
    print(
        json.dumps(
            {name: {key: round(number, 3) for key, number in result.items()} for name, result in summary.items()}
        )
    )


if __name__ == "__main__":
    main()
