"""All GPU benchmarks in one call: parity, ceilings, stages, training, rendering; prints tables and JSON.

    python -m tests.benchmarks.gpu RUN --block b001 [--seconds 180] [--out RESULTS.json] [--save FIELD]

RUN is a partitioned run; it need not be trained. Without a GPU, `--tiny` runs the script on the CPU (with
TRITON_INTERPRET=1 also its kernels), with sizes at which its figures mean nothing.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blocknerf.fields.checkpoint import save_field
from blocknerf.fields.occupancy import extract_occupancy
from blocknerf.kernels.backends import TRITON_INTERPRET
from blocknerf.kernels.devices import device_name, resolve_device
from tests.benchmarks.gpu.frames import HEIGHT, WIDTH, frame_times
from tests.benchmarks.gpu.training import curve, make_subject, rate, score


def main() -> None:
    """Print the tables, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--block", required=True)
    parser.add_argument("--seconds", type=float, default=180.0, help="duration of the longest training")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--skip", nargs="*", default=[], help="parts to leave out")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--save", type=Path, default=None, help="file for the trained field")
    options = parser.parse_args()
    device = resolve_device(options.device)
    results: dict[str, Any] = {"device": device_name(device), "torch": torch.__version__, "block": options.block}
    parts = {"parity": parity, "kernels": kernels, "rates": rates, "quality": quality, "compiled": compiled}
    for name, run_part in parts.items():
        if name in options.skip:
            continue
        start = time.perf_counter()
        try:
            results |= run_part(options, device)
        except Exception as error:  # a failed part must not lose the results of the others
            import traceback

            traceback.print_exc()
            results[f"{name}_error"] = str(error).splitlines()[:1]
        print(f"-- {name}: {time.perf_counter() - start:.1f} s", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))


def parity(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Compare each triton operation with its reference; largest relative difference."""
    if device.type == "cpu":
        return {"parity": "checked in tests, interpreted"}
    from tests.kernels.parity import OPERATIONS, compare

    results: dict[str, Any] = {}
    for name in OPERATIONS:
        try:
            case = compare(name, device, 4096)
        except Exception as error:  # still compare the others
            results[name] = {"error": str(error).splitlines()[0]}
            print(f"{name:<24}{type(error).__name__}: {str(error)[:500]}", flush=True)
            continue
        results[name] = {"relative": max(case.errors), "within": case.within}
        errors = " ".join(f"{error:.0e}" for error in case.errors)
        print(f"{name:<24}{max(case.errors):>10.1e}  {'same' if case.within else 'DIFFERS'} {errors}", flush=True)
    return {"parity": results}


def kernels(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure ceilings, each stage as a fraction of its ceiling, and the field against PyTorch."""
    if device.type == "cpu" and not TRITON_INTERPRET:
        return {"stages": "need a GPU, or Triton's interpreter"}
    from tests.benchmarks.gpu.ceilings import measure
    from tests.benchmarks.gpu.stages import STAGE_RAYS, Samples, against_pytorch, against_tiny_cuda_nn, stages

    trained = make_subject(
        options.run, options.block, device, steps=400, **({"rays_per_step": 64} if options.tiny else {})
    )
    for _ in range(2 if options.tiny else 300):
        trained.trainer.train_step()
    field, spec = trained.trainer.field, trained.trainer.field.spec
    field_ceilings, proposal_ceilings = (measure(grid, device) for grid in (field.base.grid, field.proposals[0].grid))
    for name, ceiling in (("field", field_ceilings), ("proposals", proposal_ceilings)):
        text = f"gather {ceiling.gather / 1e9:.0f} G/s, add {ceiling.scatter / 1e9:.0f} G/s"
        print(f"ceilings, {name} table: copy {ceiling.copy / 1e12:.2f} TB/s, {text}")
    samples = Samples(trained.trainer, 4 if options.tiny else STAGE_RAYS)
    timed = stages(samples, field_ceilings, proposal_ceilings)
    for stage in timed:
        print(f"{stage.name:<30}{stage.milliseconds:>9.3f} ms{stage.fraction_of_ceiling:>8.0%} of its ceiling")
    methods, grid_rates = against_pytorch(samples, ["PyTorch"]), against_tiny_cuda_nn(samples)
    for title, results in (("field", methods), ("grid alone", grid_rates)):
        print(f"{title}: " + ", ".join(f"{name} {value / 1e6:.1f} M samples/s" for name, value in results.items()))
    return {
        "ceilings": {"field": asdict(field_ceilings), "proposals": asdict(proposal_ceilings)},
        "stages": {
            stage.name: {"milliseconds": stage.milliseconds, "fraction": stage.fraction_of_ceiling} for stage in timed
        },
        "field_samples_per_second": methods,
        "grid_samples_per_second": grid_rates,
        "samples_per_ray": spec.num_proposal_samples + spec.num_samples,
    }


def compiled(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Compare the field with torch.compile. Last, because compilation is slow."""
    if device.type == "cpu":
        return {}
    from tests.benchmarks.gpu.stages import STAGE_RAYS, Samples, against_pytorch

    trained = make_subject(options.run, options.block, device, steps=400)
    for _ in range(100):
        trained.trainer.train_step()
    methods = against_pytorch(Samples(trained.trainer, STAGE_RAYS), ["torch.compile"])
    print("field: " + ", ".join(f"{name} {value / 1e6:.1f} M samples/s" for name, value in methods.items()))
    return {"field_samples_per_second_compiled": methods}


def rates(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure rays/s of whole steps, with and without CUDA graphs."""
    results = {}
    sizes = ((64, None),) if options.tiny else ((2048, False), (2048, True), (16_384, True), (65_536, True))
    for rays, captured in sizes:
        name = f"{rays} rays, {'graph' if captured else 'no graph'}"
        trained = make_subject(options.run, options.block, device, steps=300, captured=captured, rays_per_step=rays)
        per_second = rate(trained, 2, 1) if options.tiny else rate(trained, 200)
        spec = trained.trainer.field.spec
        samples = per_second * (spec.num_proposal_samples + spec.num_samples)
        print(f"{name:<30}{per_second / 1e6:>8.2f} M rays/s{samples / 1e9:>8.3f} G samples/s", flush=True)
        results[name] = {"rays_per_second": per_second, "samples_per_second": samples}
    return {"training": results}


def quality(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure PSNR over training time, and rendering time per frame."""
    tiny = {"steps": 6, "rays_per_step": 64} if options.tiny else {}
    make_subject(options.run, options.block, device, steps=20, rays_per_step=64).trainer.train_step()  # compiles
    trained = make_subject(options.run, options.block, device, **tiny)
    psnr_curve = curve(trained, 1 if options.tiny else 4)
    field = trained.trainer.field.eval().requires_grad_(False)
    start = time.perf_counter()
    occupancy = extract_occupancy(field, 8 if options.tiny else 128)
    print(f"occupancy {occupancy.occupied_fraction:.2f}, {time.perf_counter() - start:.2f} s")
    if options.save is not None:
        save_field(field, options.save, step=trained.trainer.step, city="")
    size, num_frames = ((32, 18), 1) if options.tiny else ((WIDTH, HEIGHT), 12)
    times = {"plain": frame_times(options.run, options.block, field, None, num_frames, size)}
    field.set_occupancy(occupancy)
    times["skipping"] = frame_times(options.run, options.block, field, occupancy, num_frames, size)
    print(f"ms per frame: {times}", flush=True)
    results = {"draft": psnr_curve, "skipping_psnr": round(score(trained, field), 2), "frames": times}
    if options.tiny or options.seconds <= 0:
        return results
    speed = rate(make_subject(options.run, options.block, device, steps=300, rays_per_step=8192), 100)
    steps = int(options.seconds * speed / 8192)
    results["longer"] = curve(make_subject(options.run, options.block, device, steps=steps, rays_per_step=8192), 6)
    return results


if __name__ == "__main__":
    main()
