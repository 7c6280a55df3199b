"""Which tiles, warps and programs are fastest on a GPU, for the kernels where that was not found out by a rule.

    python -m tests.benchmarks.gpu.shapes RUN --block b001 [--out RESULTS.json]

It prints a line for each shape tried, the fastest of a kernel first, and marks the one that the package uses. Every
shape is compiled, about a second each; `--tiny`, with TRITON_INTERPRET=1, runs it to its end on the processor.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from blocknerf.kernels.devices import resolve
from blocknerf.kernels.hash_grid import fused as grid
from blocknerf.kernels.radiance import fused
from tests.benchmarks.gpu.__main__ import STAGE_RAYS
from tests.benchmarks.gpu.ceilings import milliseconds
from tests.benchmarks.gpu.stages import Samples
from tests.benchmarks.gpu.training import subject

TILES = ((16, 1), (16, 2), (32, 1), (32, 2), (32, 4), (64, 2), (64, 4), (128, 4), (128, 8))
"""Samples of a tile, and the warps that share it."""
EACH = (2, 3, 4, 8)
"""Programs a multiprocessor; more than fit wait."""
RUNS = tuple((shared, run) for shared in (0, 16, 32, 64, 128) for run in (4, 8, 16))
"""Up to which resolution neighbors are summed before they are added, and how many at most."""

Trial = tuple[str, Callable[[], object]]


def backward(samples: Samples) -> Iterator[tuple[str, Trial]]:
    """The kernels that go back through networks, in every shape: the kernel, and the shape with what runs it."""
    field, rows = samples.field, samples.rows
    layers, colors = fused._layers(field.base.layers), fused._layers(field._color_layers)
    own = fused._layers(field.proposals[0].layers)
    place, first = (samples.points, samples.spreads), (samples.first, samples.first_spreads)
    part, proposal = _parts(samples)
    density, features, color, planes = part.forward(*place, rows, [*layers, *colors], True, color=True)
    slopes = torch.randn_like(density), torch.randn_like(color)
    to_tints, _, _ = part.color_backward(features, rows, colors, color, slopes[1])
    behind = features, colors[0], to_tints, density, slopes[0]
    out, _, _, wide = proposal.forward(*first, None, own, True, color=False)
    used = {
        "color": (fused.COLOR_BLOCK, part.color_shape["num_warps"], part.color_programs),
        "grid": (fused.GRID_BLOCK, part.grid_shape["num_warps"], part.grid_programs),
        "proposals": (fused.GRID_BLOCK, proposal.grid_shape["num_warps"], proposal.grid_programs),
    }
    for block, warps in TILES:
        for each in EACH:

            def set_to(block: int = block, warps: int = warps, each: int = each) -> tuple[fused._Part, fused._Part]:
                fused.COLOR_BLOCK = fused.GRID_BLOCK = block
                pair = _parts(samples)
                for one in pair:
                    one.color_shape["num_warps"] = one.grid_shape["num_warps"] = warps
                    one.color_programs = one.grid_programs = each
                return pair

            calls: dict[str, Callable[..., object]] = {
                "color": lambda part, _: part.color_backward(features, rows, colors, color, slopes[1]),
                "grid": lambda part, _: part.grid_backward(
                    *place, None, layers, planes, None, (False, False), behind, samples.fade
                ),
                "proposals": lambda _, part: part.grid_backward(*first, None, own, wide, out, (False, False)),
            }
            for name, call in calls.items():
                mark = " *" if used[name] == (block, warps, each) else ""
                shape = f"{block} samples, {warps} warps, {each} programs{mark}"
                yield name, (shape, lambda call=call, set_to=set_to: call(*set_to()))


def scatters(samples: Samples) -> Iterator[tuple[str, Trial]]:
    """The additions to tables, with runs of several lengths up to several resolutions."""
    spec, device = samples.field.spec, samples.points.device
    wide = torch.randn(spec.levels, len(samples.points), spec.features, device=device)
    small = torch.randn(spec.proposal_levels, len(samples.first), 2, device=device)
    given: dict[str, tuple[Tensor, Tensor, Tensor, object]] = {
        "field's scatter": (samples.points, samples.spreads, wide, samples.field.base.grid),
        "proposals' scatter": (samples.first, samples.first_spreads, small, samples.field.proposals[0].grid),
    }
    used = grid.SHARED_RESOLUTION, grid.RUN
    for shared, run in RUNS:
        for name, (points, spreads, slopes, table) in given.items():

            def scatter(
                shared: int = shared, run: int = run, points=points, spreads=spreads, slopes=slopes, table=table
            ) -> Tensor:
                grid.SHARED_RESOLUTION, grid.RUN = shared, run
                return grid.scatter(points, spreads, None, slopes, table)

            yield name, (f"up to {shared}, runs of {run}{' *' if (shared, run) == used else ''}", scatter)


def main() -> None:
    """Print the shapes of each kernel by their time, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--block", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    device = resolve("auto")
    of = subject(options.run, options.block, device, steps=400, **({"rays": 64} if options.tiny else {}))
    for _ in range(2 if options.tiny else 300):
        of.trainer.advance()
    samples = Samples(of.trainer, 4 if options.tiny else STAGE_RAYS)
    found: dict[str, dict[str, float]] = {}
    for name, (shape, run) in (*backward(samples), *scatters(samples)):
        try:
            found.setdefault(name, {})[shape] = milliseconds(run, 7)
        except Exception as error:  # a shape that does not compile is none to take
            print(f"{name}, {shape}: {str(error).splitlines()[:1]}", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    for name, shapes in found.items():
        for shape, time in sorted(shapes.items(), key=lambda each: each[1]):
            print(f"{name:<20}{shape:<40}{time:>9.3f} ms")


def _parts(samples: Samples) -> tuple[fused._Part, fused._Part]:
    field = samples.field
    part = fused._Part(field.base.layers, tint=field.spec.hidden, scale=1.0)
    return part, fused._Part(field.proposals[0].layers)


if __name__ == "__main__":
    main()
