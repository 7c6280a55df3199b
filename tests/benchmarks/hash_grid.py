"""The hash grid in Numba against the PyTorch reference: `python -m tests.benchmarks.hash_grid`.

65,536 samples along rays, 8 levels x 4 features, 2^16 entries per level, with footprints; forward, and backward to the
table. The backends alternate, so that other load slows both. Required: at least 15 times faster.
"""

import json
import time
from statistics import median

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from blocknerf.kernels.hash_grid import GridSpec, encode  # noqa: E402

SPEC = GridSpec(num_levels=8, features_per_level=4, log2_hashmap_size=16, base_resolution=16, max_resolution=2048)
RAYS, SAMPLES, REPEATS, REQUIRED = 1024, 64, 7, 15.0


def samples_along_rays() -> tuple[Tensor, Tensor]:
    """Return points along rays from the center of the cube, and footprints that grow along the ray."""
    generator = torch.Generator().manual_seed(0)
    origins = 0.35 + 0.3 * torch.rand(RAYS, 1, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(RAYS, 1, 3, generator=generator), dim=-1)
    distances = torch.linspace(0.005, 0.5, SAMPLES)
    points = (origins + distances[:, None] * directions).clamp(0, 1).reshape(-1, 3)
    return points.contiguous(), (0.002 * distances).repeat(RAYS)


def one_pass(backend: str, points: Tensor, footprints: Tensor, table: Tensor, gradients: Tensor) -> tuple[float, float]:
    """Return the milliseconds of the forward and backward pass."""
    start = time.perf_counter()
    encoded = encode(points, table, SPEC, footprints, backend)
    between = time.perf_counter()
    torch.autograd.grad(encoded, table, gradients)
    return 1e3 * (between - start), 1e3 * (time.perf_counter() - between)


def main() -> None:
    """Print a table and one line of JSON."""
    points, footprints = samples_along_rays()
    table = (torch.rand(SPEC.num_entries, SPEC.features_per_level) - 0.5).requires_grad_()
    inputs = (points, footprints, table, torch.randn(len(points), SPEC.output_dim))
    times: dict[str, list[tuple[float, float]]] = {"torch": [], "numba": []}
    for repeat in range(REPEATS + 1):
        for backend, passes in times.items():
            milliseconds = one_pass(backend, *inputs)
            if repeat:  # the first pass compiles
                passes.append(milliseconds)
    print(f"{len(points)} samples, {THREADS} threads, medians of {REPEATS}")
    print(f"{'backend':<12}{'forward ms':>12}{'backward ms':>13}{'samples/s':>14}")
    totals = {}
    for backend, passes in times.items():
        forward, backward = (median(values) for values in zip(*passes, strict=True))
        totals[backend] = forward + backward
        print(f"{backend:<12}{forward:>12.2f}{backward:>13.2f}{1e3 * len(points) / totals[backend]:>14,.0f}")
    ratio = totals["torch"] / totals["numba"]
    summary = {"benchmark": "hash_grid", "ratio": round(ratio, 1), "required": REQUIRED, "passed": ratio >= REQUIRED}
    print(json.dumps(summary | {f"{backend}_ms": round(total, 2) for backend, total in totals.items()}))


if __name__ == "__main__":
    main()
