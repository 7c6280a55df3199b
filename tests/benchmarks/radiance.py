"""The radiance operation on the processor, fused against kernel after kernel: `python -m tests.benchmarks.radiance`.

The draft field (8 levels x 4 features, networks 32 wide), 2,048 rays of 24 samples, forward and backward to everything
that is trained. Repeats of the two ways, and of the parts that nothing can do without, are interleaved, so that a busy
machine slows all: the grid's gather and scatter alone, and the networks' multiplications from the L1 cache.
"""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numba import njit, prange  # noqa: E402
from torch import Tensor  # noqa: E402

from blocknerf.kernels.hash_grid import GridSpec, encode, level_weights  # noqa: E402
from blocknerf.kernels.hash_grid.numba_impl import backward as grid_backward  # noqa: E402
from blocknerf.kernels.mlp.buffer_layout import TILE, Layout, layout  # noqa: E402
from blocknerf.kernels.mlp.matmul import ROWS, aligned, product  # noqa: E402
from blocknerf.kernels.radiance import ColorParams, HashGridParams, layered, radiance  # noqa: E402

RAYS, SAMPLES, HIDDEN, FEATURES, REPEATS = 2048, 24, 32, 16, 15
TABLES = (16, 17)
"""Entries a level, as powers of two; the draft preset has the second."""
HALF_EXTENT, PRODUCTS = 20.0, 2000

Pass = Callable[[], tuple[float, float]]


def samples_along_rays() -> tuple[Tensor, Tensor]:
    """Points from the middle of the cube outward, and footprints that grow along the ray."""
    generator = torch.Generator().manual_seed(0)
    origins = 0.35 + 0.3 * torch.rand(RAYS, 1, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(RAYS, 1, 3, generator=generator), dim=-1)
    distances = torch.linspace(0.005, 0.5, SAMPLES)
    points = (origins + distances[:, None] * directions).clamp(0, 1).reshape(-1, 3)
    return points.contiguous(), (0.002 * distances).repeat(RAYS)


def layers(*widths: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Weights and biases of a network with these widths."""
    linear = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
    return tuple(layer.weight for layer in linear), tuple(layer.bias for layer in linear)


def ways(log2_hashmap_size: int) -> dict[str, Pass]:
    """The same step one way and the other, and the parts alone, each forward and backward in milliseconds."""
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
    fade, given = torch.rand(len(points)), (torch.randn(len(points)), torch.randn(len(points), 3))
    planes = np.ones((grid.num_levels, len(points) * grid.features_per_level), np.float32)
    place = field, color, points, footprints, rows

    def step(run: Callable[[], tuple[Tensor, Tensor]]) -> tuple[float, float]:
        outputs: list[Tensor] = []
        return timed(lambda: outputs.extend(run())), timed(lambda: torch.autograd.grad(outputs, leaves, given))

    def grid_alone() -> tuple[float, float]:
        gains = level_weights(grid.num_levels, None)
        back = points, table, footprints, grid, gains, planes, (False, True)
        return timed(lambda: encode(points, table.detach(), grid, footprints, "numba")), timed(
            lambda: grid_backward(*back)
        )

    return {
        "plain": lambda: step(lambda: layered.radiance(*place, HALF_EXTENT, fade, "numba")),
        "triton": lambda: step(lambda: radiance(*place, half_extent=HALF_EXTENT, fade=fade, backend="numba")),
        "grid": grid_alone,
        "products": products_alone,
    }


def timed(run: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def products_alone() -> tuple[float, float]:
    """The networks' multiplications at the rate of matrices that never leave the L1 cache."""
    plans = layout((32, HIDDEN, FEATURES)), layout((FEATURES, HIDDEN, HIDDEN, 3))
    forward, backward = (sum(column) for column in zip(*map(multiplications, plans), strict=True))
    rate = THREADS * PRODUCTS * TILE * HIDDEN * HIDDEN / timed(lambda: _multiply(THREADS, PRODUCTS))
    return RAYS * SAMPLES * forward / rate, RAYS * SAMPLES * backward / rate


def multiplications(plan: Layout) -> tuple[int, int]:
    """A sample's forward, and backward: activations again, gradients of weights and of inputs; padding included."""
    forward = backward = 0
    for inputs, outputs, input_room, output_room in plan.layers[:, :4].tolist():
        forward += inputs * output_room
        backward += inputs * output_room + (-(-outputs // ROWS) * ROWS + outputs) * input_room
    return forward, backward


@njit(parallel=True)
def _multiply(threads, repeats):
    for thread in prange(threads):  # noqa: B007
        a, b, c = aligned(TILE * HIDDEN), aligned(HIDDEN * HIDDEN), aligned(TILE * HIDDEN)
        a[:], b[:], c[:] = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for repeat in range(repeats):  # noqa: B007
            product(a, 0, HIDDEN, 1, b, 0, b, 0, 0, c, 0, TILE, HIDDEN, HIDDEN)


def measure(log2_hashmap_size: int) -> dict[str, float]:
    """Samples a second of each way, in a printed table, and how the fused one stands to the others."""
    passes = ways(log2_hashmap_size)
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in passes}
    for repeat in range(REPEATS + 2):
        for way, run in passes.items():
            milliseconds = run()
            if repeat > 1:  # the first compiles
                times[way].append(milliseconds)
    count, rates = RAYS * SAMPLES, {}
    for way, pairs in times.items():
        forward, backward = (median(values) for values in zip(*pairs, strict=True))
        best = 1e3 * count / min(map(sum, pairs))
        rates[way] = 1e3 * count / (forward + backward)
        print(f"2^{log2_hashmap_size:<7}{way:<10}{forward:>12.2f}{backward:>13.2f}{rates[way]:>14,.0f}{best:>14,.0f}")
    ratios = [sum(one) / sum(other) for one, other in zip(times["plain"], times["triton"], strict=True)]
    bound = 1.0 / (1.0 / rates["grid"] + 1.0 / rates["products"])
    return rates | {"ratio": median(ratios), "bound": bound, "share_of_bound": rates["triton"] / bound}


def main() -> None:
    """Print a table and one line of JSON."""
    print(f"{RAYS * SAMPLES} samples, {THREADS} threads, medians of {REPEATS}")
    print(f"{'entries':<9}{'way':<10}{'forward ms':>12}{'backward ms':>13}{'samples/s':>14}{'at best':>14}")
    summary = {f"2^{log2_hashmap_size}": measure(log2_hashmap_size) for log2_hashmap_size in TABLES}
    for name, found in summary.items():
        print(
            f"{name}: fused is {found['ratio']:.2f} times as fast as plain; grid and products alone would allow "
            f"{found['bound']:,.0f} samples/s, of which it reaches {found['share_of_bound']:.0%}"
        )
    print(
        json.dumps({name: {key: round(number, 3) for key, number in found.items()} for name, found in summary.items()})
    )


if __name__ == "__main__":
    main()
