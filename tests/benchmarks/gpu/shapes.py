"""Find the fastest tile sizes, warps and program counts on a GPU, for kernels without a rule for them.

    python -m tests.benchmarks.gpu.shapes RUN --block b001 [--out RESULTS.json]

It prints a line per shape, the fastest of each kernel first, and marks the one that the package uses. Compiling takes
about a second per shape. `--tiny`, with TRITON_INTERPRET=1, runs everything on the CPU.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from blocknerf.kernels.devices import resolve_device
from blocknerf.kernels.hash_grid import triton_impl as grid_impl
from blocknerf.kernels.radiance import triton_impl
from tests.benchmarks.gpu.ceilings import milliseconds
from tests.benchmarks.gpu.stages import STAGE_RAYS, Kernels, Samples
from tests.benchmarks.gpu.training import make_subject

TILES = ((16, 1), (16, 2), (32, 1), (32, 2), (32, 4), (64, 2), (64, 4), (128, 4), (128, 8))
"""Samples per tile, and warps per tile."""
PROGRAMS_PER_SM = (2, 3, 4, 8)
"""Programs per multiprocessor; those that do not fit wait."""
RUN_SHAPES = tuple((shared, run_length) for shared in (0, 16, 32, 64, 128) for run_length in (4, 8, 16))
"""Maximum resolution at which neighbors are summed first, and the run length."""


def shapes(kernels: Kernels) -> Iterator[tuple[str, str]]:
    """Set the kernels to one shape after the other; yield the stage to run and a description of the shape."""
    field, proposal = kernels.field_launcher, kernels.proposal_launcher
    used = {
        "color network, backward": (
            triton_impl.COLOR_BLOCK_SIZE,
            field.color_shape["num_warps"],
            field.color_programs,
        ),
        "grid network, backward": (
            triton_impl.GRID_BLOCK_SIZE,
            field.grid_shape["num_warps"],
            field.grid_programs,
        ),
        "proposals, backward": (
            triton_impl.GRID_BLOCK_SIZE,
            proposal.grid_shape["num_warps"],
            proposal.grid_programs,
        ),
    }
    for block, warps in TILES:
        for count in PROGRAMS_PER_SM:
            triton_impl.COLOR_BLOCK_SIZE = triton_impl.GRID_BLOCK_SIZE = block
            for launcher in (field, proposal):
                launcher.color_shape["num_warps"] = launcher.grid_shape["num_warps"] = warps
                launcher.color_programs = launcher.grid_programs = count
            for name, shape in used.items():
                mark = _mark_used(shape == (block, warps, count))
                yield name, f"{block} samples, {warps} warps, {count} programs{mark}"
    used_runs = grid_impl.SHARED_RESOLUTION, grid_impl.RUN_LENGTH
    for shared, run_length in RUN_SHAPES:
        grid_impl.SHARED_RESOLUTION, grid_impl.RUN_LENGTH = shared, run_length
        for name in ("field, table backward", "proposals, table backward"):
            yield name, f"up to {shared}, runs of {run_length}{_mark_used(used_runs == (shared, run_length))}"


def main() -> None:
    """Print the shapes of each kernel by time, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--block", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    trained = make_subject(
        options.run, options.block, resolve_device("auto"), steps=400, **({"rays_per_step": 64} if options.tiny else {})
    )
    for _ in range(2 if options.tiny else 300):
        trained.trainer.train_step()
    kernels = Kernels(Samples(trained.trainer, 4 if options.tiny else STAGE_RAYS))
    results: dict[str, dict[str, float]] = {}
    for name, shape in shapes(kernels):
        try:
            results.setdefault(name, {})[shape] = milliseconds(kernels.runs[name], 7)
        except Exception as error:  # skip shapes that do not compile
            print(f"{name}, {shape}: {str(error).splitlines()[:1]}", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    for name, times in results.items():
        for shape, time in sorted(times.items(), key=lambda item: item[1]):
            print(f"{name:<30}{shape:<40}{time:>9.3f} ms")


def _mark_used(used: bool) -> str:
    return " *" if used else ""


if __name__ == "__main__":
    main()
