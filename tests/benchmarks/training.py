"""Rays/s of draft training, everything included, and a time profile of its steps.

    python -m tests.benchmarks.training [CAPTURE]

The stages come from PyTorch's profiler, as fractions of the time of profiled steps; rays/s are measured without it. The
last lines compare with the time that the fused field alone would need on two cores.
"""

import json
import sys
import time
from pathlib import Path

from blocknerf.kernels.threads import set_num_threads

THREADS = set_num_threads()  # before torch, which reads the wait policy on import

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from tests.benchmarks.one_block import SAMPLE, one_block  # noqa: E402

WARM_UP, COUNTED, REQUIRED = 12, 40, 15_000
STAGES = {
    "field, forward": ("_Radiance",),
    "field, backward": ("_RadianceBackward",),
    "other grids, forward": ("_Encode",),
    "other grids, backward": ("_EncodeBackward",),
    "other MLPs, forward": ("_Mlp",),
    "other MLPs, backward": ("_MlpBackward",),
}
BOUND_SAMPLES = 3.0e6
"""Samples/s, forward and backward, of a fused 8x4 field with 32-wide MLPs on two cores."""


def main() -> None:
    """Print a table and one line of JSON."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    trainer = one_block(path, steps=1000).trainer
    rays = trainer.config.rays_per_step
    for _ in range(WARM_UP):
        trainer.train_step()
    start = time.perf_counter()
    for _ in range(COUNTED):
        trainer.train_step()
    rate = COUNTED * rays / (time.perf_counter() - start)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        for _ in range(COUNTED):
            trainer.train_step()
        profiled = time.perf_counter() - start
    self_seconds = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    table = {stage: sum(self_seconds.get(name, 0.0) for name in names) for stage, names in STAGES.items()}
    table["PyTorch: sampling, losses, copies"] = sum(t for name, t in self_seconds.items() if name.startswith("aten::"))
    table["Python, pixels, Adam"] = max(0.0, profiled - sum(table.values()))
    print(f"{path.name}: {rays} rays/step, {THREADS} threads, torch {torch.__version__}")
    for stage, seconds in table.items():
        print(f"{stage:<36}{1e3 * seconds / COUNTED:>9.1f} ms/step {seconds / profiled:>7.0%}")
    samples = rays * trainer.field.spec.num_samples
    bound = samples / BOUND_SAMPLES
    print(f"{'whole step':<36}{1e3 * rays / rate:>9.1f} ms; bound of the fused field alone {1e3 * bound:.1f} ms")
    samples_rate = rate * trainer.field.spec.num_samples
    print(f"{rate:,.0f} rays/s, {samples_rate:,.0f} field samples/s (required {REQUIRED:,} rays/s)")
    print(
        json.dumps({"rays_per_second": round(rate), "milliseconds": {k: 1e3 * v / COUNTED for k, v in table.items()}})
    )


if __name__ == "__main__":
    main()
