"""Compile all kernels launched by a training step and by rendering, without a GPU: `python -m tests.kernels.launched`.

Run it without TRITON_INTERPRET. `tests.kernels.compiled` analyzes the code of listed kernels; this checks that every
call compiles with its real arguments. Kernels do not run, so results are uninitialized memory. It prints the name of
each kernel.
"""

from types import SimpleNamespace
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from blocknerf.fields.block_field import OccupancyGrid
from blocknerf.fields.footprint_floor import FootprintFloor
from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS
from blocknerf.rendering.image import render_image, render_proposals
from blocknerf.training.losses import LossMonitor
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.trainer import Trainer
from tests.benchmarks.one_block import SAMPLE, one_block

CAPABILITY = (9, 0)


class _Driver:
    """The properties of a GPU that Triton needs to compile."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 10 * CAPABILITY[0] + CAPABILITY[1], 32)


def main() -> None:
    """Print each kernel's name on a line."""
    names: set[str] = set()
    _fake_gpu(names)
    block = one_block(SAMPLE, steps=20)
    cpu_trainer = block.trainer
    source = cpu_trainer.pixels
    pixels = PixelSampler(
        source.capture, source.frames, downscale=1, budget_bytes=1 << 30, seed=0, use_depth=True, fixed_shapes=True
    )
    trainer = Trainer(cpu_trainer.field, pixels, cpu_trainer.exposures, cpu_trainer.config)
    trainer.train_step()
    field = trainer.field.eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.zero_()
    cameras, code = block.capture.cameras().scaled(0.1), field.mean_appearance_code()
    render_image(field, cameras.generate_rays(0), code, 1.0)
    field.set_occupancy(OccupancyGrid(torch.ones(8, 8, 8, dtype=torch.bool), field.spec.origin, field.spec.half_extent))
    render_image(field, cameras.generate_rays(0), code, 1.0)
    field.footprint_floor = FootprintFloor(torch.zeros(8, 8, 8))
    render_image(field, cameras.generate_rays(0), code, 1.0)
    render_proposals(field, cameras, 0)
    print(*sorted(names), sep="\n")


def _fake_gpu(names: set[str]) -> None:
    """Make the CPU look like a GPU that compiles but does not run kernels, and record kernel names."""
    driver.set_active(_Driver())
    run = JITFunction.run

    def compile_only(kernel: JITFunction, *values: Any, grid: Any, warmup: bool, **settings: Any) -> Any:
        names.add(kernel.__name__)
        return run(kernel, *values, grid=grid, warmup=True, **settings)

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        default = "triton" if "triton" in OPERATIONS[operation] and dtype == torch.float32 else "torch"
        return default if backend == "auto" else backend

    JITFunction.run = compile_only
    backends._resolve_backend = choose
    torch.cuda.get_device_capability = lambda device=None: CAPABILITY
    torch.cuda.get_device_properties = lambda device: SimpleNamespace(multi_processor_count=1)
    LossMonitor.check = lambda monitor: None  # the loss is not finite


if __name__ == "__main__":
    main()
