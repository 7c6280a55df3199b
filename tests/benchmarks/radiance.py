"""The radiance operation on the processor, fused against kernel after kernel: `python -m tests.benchmarks.radiance`.

The draft field (8 levels x 4 features, networks 32 wide), 2,048 rays of 24 samples, forward and backward to everything
that is trained. Repeats of the two ways are interleaved, so that a busy machine slows both.
"""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from blocknerf.kernels.threads import use_threads

THREADS = use_threads()  # first of all: PyTorch reads how to wait when it is imported

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from blocknerf.kernels.hash_grid import GridSpec  # noqa: E402
from blocknerf.kernels.radiance import ColorLayers, GridLayers, layered, radiance  # noqa: E402

RAYS, SAMPLES, HIDDEN, FEATURES, REPEATS = 2048, 24, 32, 16, 15
TABLES = (16, 17)
"""Entries a level, as powers of two; the draft preset has the second."""
HALF_EXTENT, REQUIRED = 20.0, 1.0e6

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


def ways(log2_table: int) -> dict[str, Pass]:
    """The same step one way and the other."""
    grid = GridSpec(levels=8, features=4, log2_table=log2_table, base_resolution=16, finest_resolution=2048)
    table = (0.1 * (torch.rand(grid.entries, grid.features) - 0.5)).requires_grad_()
    weights, biases = layers(grid.encoded, HIDDEN, FEATURES)
    field = GridLayers(grid=grid, table=table, weights=weights, biases=biases)
    color = ColorLayers(**dict(zip(("weights", "biases"), layers(FEATURES, HIDDEN, HIDDEN, 3), strict=True)))
    rows = torch.randn(RAYS, HIDDEN).requires_grad_()
    leaves = [table, *weights, *biases, *color.weights, *color.biases, rows]
    points, footprints = samples_along_rays()
    fade, given = torch.rand(len(points)), (torch.randn(len(points)), torch.randn(len(points), 3))

    def timed(run: Callable[[], tuple[Tensor, Tensor]]) -> tuple[float, float]:
        start = time.perf_counter()
        outputs = run()
        middle = time.perf_counter()
        torch.autograd.grad(outputs, leaves, given)
        return 1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)

    place = field, color, points, footprints, rows
    return {
        "plain": lambda: timed(lambda: layered.radiance(*place, HALF_EXTENT, fade, "native")),
        "fused": lambda: timed(lambda: radiance(*place, half_extent=HALF_EXTENT, fade=fade, backend="native")),
    }


def main() -> None:
    """Print a table and one line of JSON."""
    count = RAYS * SAMPLES
    print(f"{count} samples, {THREADS} threads, medians of {REPEATS}")
    print(f"{'entries':<9}{'way':<8}{'forward ms':>12}{'backward ms':>13}{'samples/s':>14}")
    summary = {}
    for log2_table in TABLES:
        passes, times = ways(log2_table), {"plain": [], "fused": []}
        for repeat in range(REPEATS + 2):
            for way, run in passes.items():
                milliseconds = run()
                if repeat > 1:  # the first compiles
                    times[way].append(milliseconds)
        rates = {}
        for way, pairs in times.items():
            forward, backward = (median(values) for values in zip(*pairs, strict=True))
            rates[way] = 1e3 * count / (forward + backward)
            print(f"2^{log2_table:<7}{way:<8}{forward:>12.2f}{backward:>13.2f}{rates[way]:>14,.0f}")
        summary[f"2^{log2_table}"] = rates | {"ratio": rates["fused"] / rates["plain"]}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
