"""The Triton kernels that are compiled without a GPU, each with typical argument types and its register limit."""

from dataclasses import dataclass, field
from typing import Any

from blocknerf.kernels.adam import triton_impl as adam
from blocknerf.kernels.contraction import triton_impl as contraction
from blocknerf.kernels.hash_grid import triton_impl as hash_grid
from blocknerf.kernels.marching import triton_impl as marching
from blocknerf.kernels.pdf_sampling import triton_impl as pdf_sampling
from blocknerf.kernels.radiance import triton_kernels as radiance
from blocknerf.kernels.radiance.triton_impl import GRID_REGISTERS, MAX_REGISTERS
from blocknerf.kernels.ray_encoding import triton_impl as ray_encoding
from blocknerf.kernels.ray_losses import triton_impl as ray_losses
from blocknerf.kernels.ray_samples import triton_impl as ray_samples
from blocknerf.kernels.triton_ops import BLOCK_SIZE
from blocknerf.kernels.volume_rendering import triton_impl as volume_rendering

FLOATS, HALVES = "*fp32:16", "*fp16:16"
"""Pointers with the alignment of PyTorch's allocations; `:16` marks a pointer or integer divisible by 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel with the types of a typical call.

    `arguments` maps names to Triton types, `constants` to compile-time values. An argument in neither is None.
    """

    name: str
    function: Any
    arguments: dict[str, str]
    constants: dict[str, Any] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3
    registers: int = 64
    capabilities: tuple[int, ...] = (80, 90)
    """A100; H100. RTX 40 and L4 (89) have A100's instructions, so only kernels written for them are compiled again."""


def typed(**names: str) -> dict[str, str]:
    """Return types by argument from argument names by type: `typed(i32="rays samples")`.

    `floats` and `halves` are aligned pointers; `multiples` are integers divisible by 16.
    """
    types = {"floats": FLOATS, "halves": HALVES, "multiples": "i32:16"}
    return {name: types.get(kind, kind) for kind, text in names.items() for name in text.split()}


GRID_ARGUMENTS = typed(
    **{"floats": "points footprints scales gradients out", "*i32:16": "levels", "*i64:16": "words", "i32": "count"}
)
GRID = {"FEATURES": 4, "FOOTPRINTS": True, "GAINS": False, "BLOCK_SIZE": 128}
"""Constants of the draft preset, as all below."""
LEVELS = {"LEVELS": 8}
NETWORK = LEVELS | {"FEATURES": 4, "PADDED_IN": 32, "HIDDEN": 32, "PADDED_HIDDEN": 32}
OUTPUT_WIDTHS = {"OUTPUTS": 16, "PADDED_OUT": 16, "COLOR_HIDDEN": 32}
LAYERS = typed(floats="scales w1 b1 w2 b2 c1 d1 c2 d2 c3 d3 ray_bias color gradient_scale") | {
    "levels": "*i32:16", "words": "*i64:16", "planes": "*i64:16", "half_planes": HALVES, "count": "i32",
    "samples": "i32",
}  # fmt: skip
SMALL = {"LEVELS": 5, "FEATURES": 2, "PADDED_IN": 16, "HIDDEN": 16, "PADDED_HIDDEN": 16}
"""A proposal or visibility network."""
COLOR_BACKWARD = LAYERS | typed(floats="grad_color grad_ray_bias partial", halves="features", multiples="total") | {
    "grad_color_hidden": "*bf16:16"
}  # fmt: skip
WITH_COLOR = {"RAY_BIAS": False, "COLOR": True, "SCALE_GRADIENT": True, "POOLED": False, "BLOCK_SIZE": 64}
GRID_BACKWARD = COLOR_BACKWARD | typed(floats="grad_out density grad_density grad_planes")
RAYS = typed(
    floats="origins directions radii weights edges sky limits out_color out_depth out_opacity",
    fp32="cx cy cz scale s_near s_extent linear_until max_depth",
    i32="side",
) | {"cells": "*u8:16"}

KERNELS = (
    Kernel(name="encode", function=hash_grid._forward, arguments=GRID_ARGUMENTS, constants=GRID | LEVELS),
    Kernel(
        name="encode, points backward",
        function=hash_grid._points_backward,
        arguments=GRID_ARGUMENTS,
        constants=GRID | LEVELS,
    ),
    Kernel(
        name="table backward, vector atomics",
        function=hash_grid._table_backward,
        arguments=GRID_ARGUMENTS,
        constants=GRID | {"FIXED_SCALE": 0.0, "VECTOR": True, "FIRST_LEVEL": 0},
        capabilities=(90,),
    ),
    Kernel(
        name="table backward, runs",
        function=hash_grid._table_backward_runs,
        arguments=GRID_ARGUMENTS,
        constants=GRID | {"VECTOR": True, "RUN_LENGTH": hash_grid.RUN_LENGTH},
        capabilities=(90,),
    ),
    Kernel(
        name="table backward, runs, scalar atomics",
        function=hash_grid._table_backward_runs,
        arguments=GRID_ARGUMENTS,
        constants=GRID | {"VECTOR": False, "RUN_LENGTH": hash_grid.RUN_LENGTH},
        capabilities=(80, 89),
    ),
    Kernel(
        name="table backward, scalar atomics",
        function=hash_grid._table_backward,
        arguments=GRID_ARGUMENTS,
        constants=GRID | {"FIXED_SCALE": 0.0, "VECTOR": False, "FIRST_LEVEL": 0},
        capabilities=(80, 89),
    ),
    Kernel(
        name="table backward, integers",
        function=hash_grid._table_backward,
        arguments=GRID_ARGUMENTS | {"out": "*i64:16"},
        constants=GRID | {"FIXED_SCALE": float(1 << 40), "VECTOR": False, "FIRST_LEVEL": 0},
    ),
    Kernel(
        name="radiance",
        function=radiance.forward,
        arguments=LAYERS | typed(floats="points footprints out", halves="features", fp32="scale"),
        constants=NETWORK | OUTPUT_WIDTHS | GRID | {"RAY_BIAS": True, "COLOR": True, "KEEP": True},
        stages=1,
        registers=168,
    ),
    Kernel(
        name="color network backward",
        function=radiance.color_backward,
        arguments=COLOR_BACKWARD,
        constants=OUTPUT_WIDTHS | {"POOLED": True, "BLOCK_SIZE": 32},
        warps=2,
        stages=1,
        registers=MAX_REGISTERS,
        capabilities=(89, 90),
    ),
    Kernel(
        name="color network backward, more warps",
        function=radiance.color_backward,
        arguments=COLOR_BACKWARD,
        constants=OUTPUT_WIDTHS | {"POOLED": True, "BLOCK_SIZE": 32},
        stages=1,
        registers=MAX_REGISTERS,
        capabilities=(80,),
    ),
    Kernel(
        name="wide color network backward",
        function=radiance.color_backward,
        arguments=COLOR_BACKWARD,
        constants=OUTPUT_WIDTHS | {"COLOR_HIDDEN": 64, "POOLED": True, "BLOCK_SIZE": 32},
        warps=8,
        stages=1,
        registers=MAX_REGISTERS,
    ),
    Kernel(
        name="grid network backward",
        function=radiance.grid_backward,
        arguments=GRID_BACKWARD,
        constants=NETWORK | OUTPUT_WIDTHS | WITH_COLOR,
        stages=1,
        registers=GRID_REGISTERS,
        capabilities=(90,),
    ),
    Kernel(
        name="grid network backward, more registers",
        function=radiance.grid_backward,
        arguments=GRID_BACKWARD,
        constants=NETWORK | OUTPUT_WIDTHS | WITH_COLOR,
        stages=1,
        registers=MAX_REGISTERS,
        capabilities=(80, 89),
    ),
    Kernel(
        name="wide grid network backward",
        function=radiance.grid_backward,
        arguments=GRID_BACKWARD,
        constants=NETWORK | OUTPUT_WIDTHS | WITH_COLOR | {"HIDDEN": 64, "PADDED_HIDDEN": 64, "COLOR_HIDDEN": 64},
        warps=8,
        stages=1,
        registers=GRID_REGISTERS,
        capabilities=(90,),
    ),
    Kernel(
        name="visibility network backward",
        function=radiance.grid_backward,
        arguments=GRID_BACKWARD,
        constants=SMALL
        | {"OUTPUTS": 1, "PADDED_OUT": 16, "COLOR_HIDDEN": 16}
        | {"RAY_BIAS": True, "COLOR": False, "SCALE_GRADIENT": False, "POOLED": True, "BLOCK_SIZE": 64},
        warps=2,
        stages=1,
        registers=MAX_REGISTERS,
    ),
    Kernel(
        name="march, proposals",
        function=marching._proposal_kernel,
        arguments=LAYERS | RAYS | {"words": "*i32:16", "planes": "*i32:16"},
        constants=NETWORK | SMALL | {"GAINS": False, "CELLS": True, "LIMITS": 64, "BLOCK_SIZE": 128, "RUN_LENGTH": 16},
        stages=1,
        registers=128,
    ),
    Kernel(
        name="march, field",
        function=marching._render_kernel,
        arguments=LAYERS | RAYS,
        constants=NETWORK
        | OUTPUT_WIDTHS
        | {"GAINS": False, "CELLS": True, "LIMITS": 64, "BLOCK_SIZE": 128, "RUN_LENGTH": 8},
        stages=1,
        registers=255,
    ),
    Kernel(
        name="weights",
        function=volume_rendering._weights_forward,
        arguments=typed(floats="density distances weights transmittance", i32="rays", multiples="samples"),
        constants={"RAYS": 16, "WIDTH": 64},
    ),
    Kernel(
        name="weights backward",
        function=volume_rendering._weights_backward,
        arguments=typed(
            floats="distances weights transmittance gradients grad_density", i32="rays", multiples="samples"
        ),
        constants={"RAYS": 16, "WIDTH": 64},
    ),
    Kernel(
        name="composite",
        function=volume_rendering._composite_forward,
        arguments=typed(floats="weights colors sky out transmitted", i32="rays", multiples="samples"),
        constants={"RAYS": volume_rendering.RAYS, "WIDTH": 64},
    ),
    Kernel(
        name="composite backward",
        function=volume_rendering._composite_backward,
        arguments=typed(
            floats="weights colors sky gradients grad_weights grad_colors", i32="count", multiples="samples"
        ),
        constants={"BLOCK_SIZE": BLOCK_SIZE},
    ),
    Kernel(
        name="sample_pdf",
        function=pdf_sampling._sample_pdf,
        arguments=typed(
            floats="edges weights jitter cumulative out", fp32="padding", multiples="bins", i32="rays num_out"
        ),
        constants={"RAYS": pdf_sampling.RAYS, "COARSE": 128, "FINE": 128, "HALVINGS": 7},
    ),
    Kernel(
        name="distortion",
        function=ray_losses._distortion,
        arguments=typed(floats="edges weights losses grad_weights", multiples="bins"),
        constants={"WIDTH": 64},
        warps=1,
    ),
    Kernel(
        name="interlevel",
        function=ray_losses._interlevel,
        arguments=typed(
            floats="fine_edges fine_weights edges weights sums ratio_sums losses grad_weights",
            multiples="num_fine bins",
            fp32="floor",
        ),
        constants={"FINE": 64, "COARSE": 128, "FINE_HALVINGS": 6, "HALVINGS": 7},
        warps=1,
        registers=80,
    ),
    Kernel(
        name="ray encoding",
        function=ray_encoding._encode_kernel,
        arguments=typed(floats="directions code out", i32="count", multiples="code_row_stride"),
        constants={"code_column_stride": 1, "CODES": 32, "BLOCK_SIZE": BLOCK_SIZE},
    ),
    Kernel(
        name="ray samples",
        function=ray_samples._make_ray_samples,
        arguments=typed(
            floats="edges origins directions radii t_edges t_mids points sample_radii",
            i32="count width",
            fp32="s_near s_extent linear_until",
        ),
        constants={"BLOCK_SIZE": BLOCK_SIZE},
    ),
    Kernel(
        name="contract",
        function=contraction._contract,
        arguments=typed(floats="points footprints cube radii", i32="count", fp32="cx cy cz scale"),
        constants={"BLOCK_SIZE": BLOCK_SIZE},
    ),
    Kernel(
        name="contract backward",
        function=contraction._contract_backward,
        arguments=typed(floats="points gradients out", i32="count", fp32="cx cy cz scale"),
        constants={"BLOCK_SIZE": BLOCK_SIZE},
    ),
    Kernel(
        name="adam",
        function=adam._step,
        arguments=typed(
            floats="parameter gradient exp_avg exp_avg_sq step lr",
            halves="half_copy",
            fp32="beta1 beta2 rest1 rest2 log_beta1 log_beta2 epsilon half_max",
            multiples="count",
        ),
        constants={"STEP_IN_MEMORY": True, "RATE_IN_MEMORY": True, "GROUPS": adam.GROUPS},
    ),
)
