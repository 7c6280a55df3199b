"""Precompile the CPU kernels in several processes. Otherwise the first block waits for one after the other.

Numba compiles a function for the argument types of a call. Each group calls its kernels on a few numbers, with the
types that training and rendering use.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numba
import torch
from llvmlite import binding
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.adam import adam_step
from blocknerf.kernels.contraction import contract_to_unit_cube
from blocknerf.kernels.hash_grid import GridSpec, encode
from blocknerf.kernels.marching import FieldParams, march
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.pdf_sampling import sample_pdf
from blocknerf.kernels.radiance import ColorParams, HashGridParams, radiance
from blocknerf.kernels.ray_losses import distortion, interlevel
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.kernels.threads import available_cores
from blocknerf.kernels.volume_rendering import composite, weights_from_density
from blocknerf.processes import Crew, end_with

RAYS, SAMPLES, HIDDEN, OUTPUTS = 2, 3, 16, 16
SPACING = RaySpacing(near=0.1, far=10.0, linear_until=1.0)


def is_precompiled() -> bool:
    """Return whether all kernels are compiled."""
    return _stamp_path().exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A group of kernels that did not compile."""

    group: str
    reason: str
    """The last line of its error output, or how its process ended."""


def precompile(processes: int | None = None) -> tuple[Failure, ...]:
    """Compile all groups in parallel, by default one process per core. Return the groups that failed."""
    crew, pool = Crew(), ThreadPoolExecutor(processes or available_cores())
    try:
        results = pool.map(partial(_compile, crew), GROUPS)
        failures = tuple(failure for failure in results if failure is not None)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        crew.stop()
        pool.shutdown()
    if not failures:
        with suppress(OSError):  # the cache folder may be read-only
            _stamp_path().touch()
    return failures


def _compile(crew: Crew, group: str) -> Failure | None:
    """Compile a group in its own process."""
    command = [sys.executable, "-m", "blocknerf.kernels.precompile", group, str(os.getpid())]
    process = crew.start(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", errors="backslashreplace"
    )
    _, errors = process.communicate()
    code = process.returncode
    if not code:
        return None
    exit_reason = f"its process was ended by signal {-code}" if code < 0 else f"its process failed with code {code}"
    # If a signal ended the process, its last output may be an unrelated warning.
    last_line = errors.strip().rpartition("\n")[2].strip() if code > 0 else ""
    return Failure(group=group, reason=last_line or exit_reason)


def _stamp_path() -> Path:
    """Return the stamp file in the cache folder that marks a complete cache for this CPU and compiler."""
    versions = numba.__version__, binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), sys.version
    digest = hashlib.sha256(repr(versions).encode()).hexdigest()
    return Path(os.environ["NUMBA_CACHE_DIR"]) / f"complete-{digest[:16]}"


def compile_marching() -> None:
    """Render rays through the networks of a block."""
    params = FieldParams(
        proposal=_hash_grid_params(2, 1), field=_hash_grid_params(4, OUTPUTS), color=_color_params(),
        origin=(0.0, 0.0, 0.0), half_extent=1.0, spacing=SPACING, proposal_samples=SAMPLES, samples=SAMPLES,
        occupancy=None,
    )  # fmt: skip
    march(params, _rays(), torch.zeros(RAYS, HIDDEN), torch.zeros(RAYS, 3), "numba")


def compile_radiance() -> None:
    """Run the field, forward and backward."""
    points = torch.rand(RAYS * SAMPLES, 3)
    density, color = radiance(
        _hash_grid_params(4, OUTPUTS), _color_params(), points, points[:, 0].contiguous(), torch.zeros(RAYS, HIDDEN),
        half_extent=1.0, gradient_scale=None, backend="numba",
    )  # fmt: skip
    (density.sum() + color.sum()).backward()


def compile_mlp() -> None:
    """Run an MLP, forward and backward."""
    weights, biases = _layers(8, HIDDEN, 1)
    mlp(torch.rand(RAYS * SAMPLES, 8), weights, biases, torch.zeros(RAYS, HIDDEN), "numba").sum().backward()


def compile_ray_kernels() -> None:
    """Run the hash grids and the kernels along rays, forward and backward, and an Adam step."""
    points = torch.rand(RAYS * SAMPLES, 3)
    cube, radii = contract_to_unit_cube(points, points[:, 0].contiguous(), (0.0, 0.0, 0.0), 1.0, "numba")
    for features in (2, 4):
        params = _hash_grid_params(features, 1)
        encode(cube, params.table, params.grid, radii, "numba").sum().backward()
    edges, colors = torch.arange(SAMPLES + 1.0).expand(RAYS, -1).contiguous(), torch.rand(RAYS, SAMPLES, 3)
    density = torch.ones(RAYS, SAMPLES, requires_grad=True)
    weights, _ = weights_from_density(density, edges, "numba")
    color = composite(weights, colors.requires_grad_(), torch.zeros(RAYS, 3), "numba")
    make_ray_samples(edges, _rays(), SPACING, "numba")
    fine_edges = sample_pdf(edges, weights, torch.rand(RAYS), SAMPLES, 0.01, "numba")
    losses = distortion(fine_edges, weights, "numba") + interlevel(fine_edges, weights, edges, weights, "numba")
    (color.sum() + losses).backward()
    exp_avg, exp_avg_sq = torch.zeros(RAYS), torch.zeros(RAYS)
    adam_step(
        torch.zeros(RAYS), torch.ones(RAYS), exp_avg, exp_avg_sq, step=1, lr=0.1, betas=(0.9, 0.99), epsilon=1e-15,
        backend="numba",
    )  # fmt: skip


GROUPS: dict[str, Callable[[], None]] = {
    "marching": compile_marching,
    "rays": compile_ray_kernels,
    "radiance": compile_radiance,
    "mlp": compile_mlp,
}
"""What each process compiles, slowest first."""


def _rays() -> RayBundle:
    return RayBundle(origins=torch.zeros(RAYS, 3), directions=torch.ones(RAYS, 3), pixel_radii=torch.ones(RAYS))


def _hash_grid_params(features: int, outputs: int) -> HashGridParams:
    grid = GridSpec(num_levels=2, features_per_level=features, log2_hashmap_size=6, base_resolution=2, max_resolution=8)
    weights, biases = _layers(grid.output_dim, HIDDEN, outputs)
    table = torch.zeros(grid.num_entries, features, requires_grad=True)
    return HashGridParams(grid=grid, table=table, weights=weights, biases=biases)


def _color_params() -> ColorParams:
    weights, biases = _layers(OUTPUTS, HIDDEN, HIDDEN, 3)
    return ColorParams(weights=weights, biases=biases)


def _layers(*widths: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    weights = tuple(torch.zeros(b, a, requires_grad=True) for a, b in pairwise(widths))
    return weights, tuple(torch.zeros(width, requires_grad=True) for width in widths[1:])


if __name__ == "__main__":
    end_with(int(sys.argv[2]))
    GROUPS[sys.argv[1]]()
