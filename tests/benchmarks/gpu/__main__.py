"""Everything about the GPU path in one call: parity, ceilings, stages, training, pictures; a table and a JSON.

    python -m tests.benchmarks.gpu RUN --block b001 [--seconds 180] [--out RESULTS.json] [--save FIELD]

RUN is a partitioned run, which need not be trained. Without a GPU, `--tiny` runs the script to its end on the
processor, with TRITON_INTERPRET=1 its kernels too, with sizes at which its figures mean nothing.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blocknerf.fields.checkpoint import save_field
from blocknerf.fields.occupancy_extraction import extract_occupancy
from blocknerf.kernels.backends import TRITON_INTERPRET
from blocknerf.kernels.devices import device_name, resolve_device
from tests.benchmarks.gpu.pictures import HEIGHT, WIDTH, frame_times
from tests.benchmarks.gpu.training import curve, rate, score, subject


def main() -> None:
    """Print the tables, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--block", required=True)
    parser.add_argument("--seconds", type=float, default=180.0, help="of the longest training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--skip", nargs="*", default=[], help="parts to leave out")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--save", type=Path, default=None, help="where to keep the trained field")
    options = parser.parse_args()
    device = resolve_device(options.device)
    results: dict[str, Any] = {"device": device_name(device), "torch": torch.__version__, "block": options.block}
    parts = {"parity": parity, "kernels": kernels, "rates": rates, "quality": quality, "compiled": compiled}
    for name, part in parts.items():
        if name in options.skip:
            continue
        start = time.perf_counter()
        try:
            results |= part(options, device)
        except Exception as error:  # one part that fails must not cost the figures of the others
            import traceback

            traceback.print_exc()
            results[f"{name}_error"] = str(error).splitlines()[:1]
        print(f"-- {name}: {time.perf_counter() - start:.1f} s", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))


def parity(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Largest relative difference of each fused operation from its reference."""
    if device.type == "cpu":
        return {"parity": "checked in tests, interpreted"}
    from tests.kernels.parity import OPERATIONS, compare

    found: dict[str, Any] = {}
    for name in OPERATIONS:
        try:
            case = compare(name, device, 4096)
        except Exception as error:  # the others are to be seen all the same
            found[name] = {"error": str(error).splitlines()[0]}
            print(f"{name:<24}{type(error).__name__}: {str(error)[:500]}", flush=True)
            continue
        found[name] = {"relative": max(case.errors), "within": case.within}
        errors = " ".join(f"{error:.0e}" for error in case.errors)
        print(f"{name:<24}{max(case.errors):>10.1e}  {'same' if case.within else 'DIFFERS'} {errors}", flush=True)
    return {"parity": found}


def kernels(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Ceilings, and each stage as a share of its own; the field against PyTorch."""
    if device.type == "cpu" and not TRITON_INTERPRET:
        return {"stages": "need a GPU, or Triton's interpreter"}
    from tests.benchmarks.gpu.ceilings import measure
    from tests.benchmarks.gpu.stages import STAGE_RAYS, Samples, against_pytorch, against_tiny_cuda_nn, stages

    of = subject(options.run, options.block, device, steps=400, **({"rays": 64} if options.tiny else {}))
    for _ in range(2 if options.tiny else 300):
        of.trainer.advance()
    field, spec = of.trainer.field, of.trainer.field.spec
    limits, small = (measure(grid, device) for grid in (field.base.grid, field.proposals[0].grid))
    for name, each in (("field", limits), ("proposals", small)):
        text = f"gather {each.gather / 1e9:.0f} G/s, add {each.scatter / 1e9:.0f} G/s"
        print(f"ceilings, {name}'s table: copy {each.copy / 1e12:.2f} TB/s, {text}")
    samples = Samples(of.trainer, 4 if options.tiny else STAGE_RAYS)
    rows = stages(samples, limits, small)
    for stage in rows:
        print(f"{stage.name:<30}{stage.milliseconds:>9.3f} ms{stage.share:>8.0%} of its ceiling")
    ways, grids = against_pytorch(samples, ["PyTorch"]), against_tiny_cuda_nn(samples)
    for title, found in (("field", ways), ("grid alone", grids)):
        print(f"{title}: " + ", ".join(f"{name} {value / 1e6:.1f} M samples/s" for name, value in found.items()))
    return {
        "ceilings": {"field": asdict(limits), "proposals": asdict(small)},
        "stages": {stage.name: {"milliseconds": stage.milliseconds, "share": stage.share} for stage in rows},
        "field_samples_per_second": ways,
        "grid_samples_per_second": grids,
        "samples_a_ray": spec.proposal_samples + spec.samples,
    }


def compiled(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The field against what torch.compile makes of it. Last, for it takes its time to begin."""
    if device.type == "cpu":
        return {}
    from tests.benchmarks.gpu.stages import STAGE_RAYS, Samples, against_pytorch

    of = subject(options.run, options.block, device, steps=400)
    for _ in range(100):
        of.trainer.advance()
    ways = against_pytorch(Samples(of.trainer, STAGE_RAYS), ["torch.compile"])
    print("field: " + ", ".join(f"{name} {value / 1e6:.1f} M samples/s" for name, value in ways.items()))
    return {"field_samples_per_second_compiled": ways}


def rates(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Rays a second of whole steps, recorded and not."""
    found = {}
    sizes = ((64, None),) if options.tiny else ((2048, False), (2048, True), (16_384, True), (65_536, True))
    for rays, captured in sizes:
        name = f"{rays} rays, {'graph' if captured else 'one by one'}"
        of = subject(options.run, options.block, device, steps=300, captured=captured, rays=rays)
        per_second = rate(of, 2, 1) if options.tiny else rate(of, 200)
        spec = of.trainer.field.spec
        samples = per_second * (spec.proposal_samples + spec.samples)
        print(f"{name:<30}{per_second / 1e6:>8.2f} M rays/s{samples / 1e9:>8.3f} G samples/s", flush=True)
        found[name] = {"rays_per_second": per_second, "samples_per_second": samples}
    return {"training": found}


def quality(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """How good a block is after how long, and how fast pictures of it are."""
    tiny = {"steps": 6, "rays": 64} if options.tiny else {}
    subject(options.run, options.block, device, steps=20, rays=64).trainer.advance()  # compiles
    of = subject(options.run, options.block, device, **tiny)
    draft = curve(of, 1 if options.tiny else 4)
    field = of.trainer.field.eval().requires_grad_(False)
    start = time.perf_counter()
    cells = extract_occupancy(field, 8 if options.tiny else 128)
    print(f"occupancy {cells.share:.2f}, {time.perf_counter() - start:.2f} s")
    if options.save is not None:
        save_field(field, options.save, step=of.trainer.step, city="")
    size, pictures = ((32, 18), 1) if options.tiny else ((WIDTH, HEIGHT), 12)
    times = {"plain": frame_times(options.run, options.block, field, None, pictures, size)}
    field.set_occupancy(cells)
    times["skipping"] = frame_times(options.run, options.block, field, cells, pictures, size)
    print(f"ms a picture: {times}", flush=True)
    found = {"draft": draft, "skipping_psnr": round(score(of, field), 2), "pictures": times}
    if options.tiny or options.seconds <= 0:
        return found
    speed = rate(subject(options.run, options.block, device, steps=300, rays=8192), 100)
    steps = int(options.seconds * speed / 8192)
    found["longer"] = curve(subject(options.run, options.block, device, steps=steps, rays=8192), 6)
    return found


if __name__ == "__main__":
    main()
