"""Which tiles, warps and programs are fastest on a GPU, for the kernels where that was not found out by a rule.

    python -m tests.benchmarks.gpu.shapes RUN --block b001 [--out RESULTS.json]

It prints a line for each shape tried, the fastest of a kernel first, and marks the one that the package uses. Every
shape is compiled, about a second each; `--tiny`, with TRITON_INTERPRET=1, runs it to its end on the processor.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from blocknerf.kernels.devices import resolve_device
from blocknerf.kernels.hash_grid import triton_impl as grid
from blocknerf.kernels.radiance import triton_impl as fused
from tests.benchmarks.gpu.ceilings import milliseconds
from tests.benchmarks.gpu.stages import STAGE_RAYS, Kernels, Samples
from tests.benchmarks.gpu.training import subject

TILES = ((16, 1), (16, 2), (32, 1), (32, 2), (32, 4), (64, 2), (64, 4), (128, 4), (128, 8))
"""Samples of a tile, and the warps that share it."""
EACH = (2, 3, 4, 8)
"""Programs a multiprocessor; more than fit wait."""
RUNS = tuple((shared, run) for shared in (0, 16, 32, 64, 128) for run in (4, 8, 16))
"""Up to which resolution neighbors are summed before they are added, and how many at most."""


def shapes(kernels: Kernels) -> Iterator[tuple[str, str]]:
    """Sets the kernels to a shape after the other; gives the stage that is to be run, and the shape in words."""
    part, proposal = kernels.part, kernels.proposal
    used = {
        "color network, backward": (fused.COLOR_BLOCK, part.color_shape["num_warps"], part.color_programs),
        "grid's network, backward": (fused.GRID_BLOCK, part.grid_shape["num_warps"], part.grid_programs),
        "proposals, backward": (fused.GRID_BLOCK, proposal.grid_shape["num_warps"], proposal.grid_programs),
    }
    for block, warps in TILES:
        for each in EACH:
            fused.COLOR_BLOCK = fused.GRID_BLOCK = block
            for one in (part, proposal):
                one.color_shape["num_warps"] = one.grid_shape["num_warps"] = warps
                one.color_programs = one.grid_programs = each
            for name, own in used.items():
                yield name, f"{block} samples, {warps} warps, {each} programs{_mark(own == (block, warps, each))}"
    kept = grid.SHARED_RESOLUTION, grid.RUN
    for shared, run in RUNS:
        grid.SHARED_RESOLUTION, grid.RUN = shared, run
        for name in ("field, scatter", "proposals, scatter"):
            yield name, f"up to {shared}, runs of {run}{_mark(kept == (shared, run))}"


def main() -> None:
    """Print the shapes of each kernel by their time, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--block", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    of = subject(
        options.run, options.block, resolve_device("auto"), steps=400, **({"rays": 64} if options.tiny else {})
    )
    for _ in range(2 if options.tiny else 300):
        of.trainer.advance()
    kernels = Kernels(Samples(of.trainer, 4 if options.tiny else STAGE_RAYS))
    found: dict[str, dict[str, float]] = {}
    for name, shape in shapes(kernels):
        try:
            found.setdefault(name, {})[shape] = milliseconds(kernels.runs[name], 7)
        except Exception as error:  # a shape that does not compile is none to take
            print(f"{name}, {shape}: {str(error).splitlines()[:1]}", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    for name, times in found.items():
        for shape, time in sorted(times.items(), key=lambda each: each[1]):
            print(f"{name:<30}{shape:<40}{time:>9.3f} ms")


def _mark(used: bool) -> str:
    return " *" if used else ""


if __name__ == "__main__":
    main()
