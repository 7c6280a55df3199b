"""All that a training step and pictures launch on a GPU, compiled without one: `python -m tests.kernels.launched`.

Run it without TRITON_INTERPRET. Where `tests.kernels.compiled` asks what becomes of kernels that are written down for
it, this asks whether every call, with the arguments that it is really given, compiles at all. Nothing is run, so what
comes out is whatever was in memory. It prints the name of each kernel.
"""

from types import SimpleNamespace
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from blocknerf.fields.occupancy import OccupancyGrid
from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS
from blocknerf.rendering.image import render_image, render_proposals
from blocknerf.training.device_pixel_sampler import DevicePixelSampler
from blocknerf.training.loss_monitor import LossMonitor
from blocknerf.training.trainer import Trainer
from tests.benchmarks.one_block import SAMPLE, one_block

CAPABILITY = (9, 0)


class _Driver:
    """What Triton asks of a GPU before it compiles for it."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 10 * CAPABILITY[0] + CAPABILITY[1], 32)


def main() -> None:
    """Print each kernel's name on a line."""
    names: set[str] = set()
    _pretend(names)
    block = one_block(SAMPLE, steps=20)
    old = block.trainer
    source = old.pixels
    pixels = DevicePixelSampler(
        source.capture, source.frames, downscale=1, budget_bytes=1 << 30, seed=0, use_depth=True, device="cpu"
    )
    trainer = Trainer(old.field, pixels, old.exposures, old.config)
    trainer.train_step()
    field = trainer.field.eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.zero_()
    cameras, code = block.capture.cameras().scaled(0.1), field.mean_appearance_code()
    render_image(field, cameras.generate_rays(0), code, 1.0)
    field.set_occupancy(OccupancyGrid(torch.ones(8, 8, 8, dtype=torch.bool), field.spec.origin, field.spec.half_extent))
    render_image(field, cameras.generate_rays(0), code, 1.0)
    render_proposals(field, cameras, 0)
    print(*sorted(names), sep="\n")


def _pretend(names: set[str]) -> None:
    """Take the processor for a GPU that compiles and does not run, and note what it is given."""
    driver.set_active(_Driver())
    run = JITFunction.run

    def compile_only(kernel: JITFunction, *values: Any, grid: Any, warmup: bool, **settings: Any) -> Any:
        names.add(kernel.__name__)
        return run(kernel, *values, grid=grid, warmup=True, **settings)

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        usual = "triton" if "triton" in OPERATIONS[operation] and dtype == torch.float32 else "torch"
        return usual if backend == "auto" else backend

    JITFunction.run = compile_only
    backends._chosen = choose
    torch.cuda.get_device_capability = lambda device=None: CAPABILITY
    torch.cuda.get_device_properties = lambda device: SimpleNamespace(multi_processor_count=1)
    LossMonitor.check = lambda watch: None  # the loss is no number


if __name__ == "__main__":
    main()
