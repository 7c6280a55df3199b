"""The Triton kernels that are compiled without a GPU, each with a typical call's types and its bound on registers."""

from dataclasses import dataclass, field
from typing import Any

from blocknerf.kernels.adam import triton_impl as adam
from blocknerf.kernels.contraction import triton_impl as contraction
from blocknerf.kernels.hash_grid import triton_impl as hash_grid
from blocknerf.kernels.marching import triton_impl as marching
from blocknerf.kernels.pdf_sampling import triton_impl as resampling
from blocknerf.kernels.radiance import backward, forward
from blocknerf.kernels.radiance.triton_impl import GRID_REGISTERS, MOST_REGISTERS
from blocknerf.kernels.ray_encoding import triton_impl as conditions
from blocknerf.kernels.ray_losses import triton_impl as histograms
from blocknerf.kernels.ray_samples import triton_impl as intervals
from blocknerf.kernels.triton_ops import BLOCK
from blocknerf.kernels.volume_rendering import triton_impl as quadrature

FLOATS, HALVES = "*fp32:16", "*fp16:16"
"""Pointers as PyTorch's allocations are aligned; `:16` says of any pointer or integer that 16 divides it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel as a call would have it compiled.

    `arguments` are a type each, as Triton spells it; `constants` the values that it is compiled for. An argument
    that stands in neither is None.
    """

    name: str
    function: Any
    arguments: dict[str, str]
    constants: dict[str, Any] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3
    registers: int = 64
    capabilities: tuple[int, ...] = (80, 89, 90)
    """A100; RTX 40 and L4; H100."""


def typed(**names: str) -> dict[str, str]:
    """Types by argument, from a text of arguments by type: `typed(i32="rays samples")`.

    `floats` and `halves` are aligned pointers, `multiples` integers that 16 divides.
    """
    types = {"floats": FLOATS, "halves": HALVES, "multiples": "i32:16"}
    return {name: types.get(kind, kind) for kind, text in names.items() for name in text.split()}


PLACED = typed(
    **{"floats": "points footprints scales gradients out", "*i32:16": "levels", "*i64:16": "words", "i32": "count"}
)
GRID = {"FEATURES": 4, "SPREAD": True, "GAINS": False, "BLOCK": 128}
"""The draft preset's, as all below."""
LEVELS = {"LEVELS": 8}
NETWORK = LEVELS | {"FEATURES": 4, "INPUTS": 32, "HIDDEN": 32, "WIDE": 32}
HEAD = {"OUTPUTS": 16, "ROOM": 16, "TINT": 32}
LAYERS = typed(floats="scales w1 b1 w2 b2 c1 d1 c2 d2 c3 d3 rows color fades") | {
    "levels": "*i32:16", "words": "*i64:16", "planes": "*i64:16", "halves": HALVES, "count": "i32", "samples": "i32",
}  # fmt: skip
SMALL = {"LEVELS": 5, "FEATURES": 2, "INPUTS": 16, "HIDDEN": 16, "WIDE": 16}
"""A network of the proposals or of visibility."""
COLOR_BACK = LAYERS | typed(floats="to_color to_rows partial", halves="features", multiples="total") | {
    "to_tints": "*bf16:16"
}  # fmt: skip
THROUGH_COLOR = {"ROWS": False, "COLOR": True, "FADE": True, "POOLED": False, "BLOCK": 64}
GRID_BACK = COLOR_BACK | typed(floats="to_out density to_density to_planes")
RAYS = typed(
    floats="origins directions radii weights edges sky depth opacity",
    fp32="east north up scale low span knee end",
    i32="side",
) | {"cells": "*u8:16"}

KERNELS = (
    Kernel(name="encode", function=hash_grid._forward, arguments=PLACED, constants=GRID | LEVELS),
    Kernel(name="encode, back to points", function=hash_grid._to_points, arguments=PLACED, constants=GRID | LEVELS),
    Kernel(
        name="scatter, an entry at once",
        function=hash_grid._to_table,
        arguments=PLACED,
        constants=GRID | {"FIXED": 0.0, "VECTOR": True, "FIRST": 0},
        capabilities=(90,),
    ),
    Kernel(
        name="scatter, runs",
        function=hash_grid._runs_to_table,
        arguments=PLACED,
        constants=GRID | {"VECTOR": True, "RUN": hash_grid.RUN},
        capabilities=(90,),
    ),
    Kernel(
        name="scatter, runs, a feature at a time",
        function=hash_grid._runs_to_table,
        arguments=PLACED,
        constants=GRID | {"VECTOR": False, "RUN": hash_grid.RUN},
        capabilities=(80, 89),
    ),
    Kernel(
        name="scatter, a feature at a time",
        function=hash_grid._to_table,
        arguments=PLACED,
        constants=GRID | {"FIXED": 0.0, "VECTOR": False, "FIRST": 0},
        capabilities=(80, 89),
    ),
    Kernel(
        name="scatter, whole numbers",
        function=hash_grid._to_table,
        arguments=PLACED | {"out": "*i64:16"},
        constants=GRID | {"FIXED": float(1 << 40), "VECTOR": False, "FIRST": 0},
    ),
    Kernel(
        name="radiance",
        function=forward.forward,
        arguments=LAYERS | typed(floats="points footprints out", halves="features", fp32="scale"),
        constants=NETWORK | HEAD | GRID | {"ROWS": True, "COLOR": True, "KEEP": True},
        stages=1,
        registers=168,
    ),
    Kernel(
        name="color network, back",
        function=backward.color_backward,
        arguments=COLOR_BACK,
        constants=HEAD | {"POOLED": True, "BLOCK": 32},
        warps=2,
        stages=1,
        registers=MOST_REGISTERS,
        capabilities=(89, 90),
    ),
    Kernel(
        name="color network, back, more warps",
        function=backward.color_backward,
        arguments=COLOR_BACK,
        constants=HEAD | {"POOLED": True, "BLOCK": 32},
        stages=1,
        registers=MOST_REGISTERS,
        capabilities=(80,),
    ),
    Kernel(
        name="wide color network, back",
        function=backward.color_backward,
        arguments=COLOR_BACK,
        constants=HEAD | {"TINT": 64, "POOLED": True, "BLOCK": 32},
        warps=8,
        stages=1,
        registers=MOST_REGISTERS,
    ),
    Kernel(
        name="grid's network, back",
        function=backward.grid_backward,
        arguments=GRID_BACK,
        constants=NETWORK | HEAD | THROUGH_COLOR,
        stages=1,
        registers=GRID_REGISTERS,
        capabilities=(90,),
    ),
    Kernel(
        name="grid's network, back, more registers",
        function=backward.grid_backward,
        arguments=GRID_BACK,
        constants=NETWORK | HEAD | THROUGH_COLOR,
        stages=1,
        registers=MOST_REGISTERS,
        capabilities=(80, 89),
    ),
    Kernel(
        name="wide grid's network, back",
        function=backward.grid_backward,
        arguments=GRID_BACK,
        constants=NETWORK | HEAD | THROUGH_COLOR | {"HIDDEN": 64, "WIDE": 64, "TINT": 64},
        warps=8,
        stages=1,
        registers=GRID_REGISTERS,
        capabilities=(90,),
    ),
    Kernel(
        name="visibility network, back",
        function=backward.grid_backward,
        arguments=GRID_BACK,
        constants=SMALL
        | {"OUTPUTS": 1, "ROOM": 16, "TINT": 16}
        | {"ROWS": True, "COLOR": False, "FADE": False, "POOLED": True, "BLOCK": 64},
        warps=2,
        stages=1,
        registers=MOST_REGISTERS,
    ),
    Kernel(
        name="march, proposals",
        function=marching._propose,
        arguments=LAYERS | RAYS | {"words": "*i32:16", "planes": "*i32:16"},
        constants=NETWORK | SMALL | {"GAINS": False, "CELLS": True, "BLOCK": 128, "RUN": 16},
        stages=1,
        registers=128,
    ),
    Kernel(
        name="march, field",
        function=marching._see,
        arguments=LAYERS | RAYS,
        constants=NETWORK | HEAD | {"GAINS": False, "CELLS": True, "BLOCK": 128, "RUN": 8},
        stages=1,
        registers=255,
    ),
    Kernel(
        name="weights",
        function=quadrature._weigh,
        arguments=typed(floats="density distances weights transmittance", i32="rays", multiples="samples"),
        constants={"RAYS": 16, "WIDTH": 64},
    ),
    Kernel(
        name="weights, back",
        function=quadrature._weigh_back,
        arguments=typed(floats="distances weights transmittance gradients slopes", i32="rays", multiples="samples"),
        constants={"RAYS": 16, "WIDTH": 64},
    ),
    Kernel(
        name="composite",
        function=quadrature._composite,
        arguments=typed(floats="weights colors sky out passed", i32="rays", multiples="samples"),
        constants={"RAYS": quadrature.RAYS, "WIDTH": 64},
    ),
    Kernel(
        name="composite, back",
        function=quadrature._composite_back,
        arguments=typed(floats="weights colors sky gradients to_weights to_colors", i32="count", multiples="samples"),
        constants={"BLOCK": BLOCK},
    ),
    Kernel(
        name="sample_pdf",
        function=resampling._resample,
        arguments=typed(
            floats="edges weights jitter cumulative out", fp32="padding", multiples="bins", i32="rays finer"
        ),
        constants={"RAYS": resampling.RAYS, "COARSE": 128, "FINE": 128, "HALVINGS": 7},
    ),
    Kernel(
        name="distortion",
        function=histograms._distortion,
        arguments=typed(floats="edges weights losses slopes", multiples="bins"),
        constants={"WIDTH": 64},
        warps=1,
    ),
    Kernel(
        name="interlevel",
        function=histograms._interlevel,
        arguments=typed(
            floats="fine_edges fine_weights edges weights sums changes losses slopes",
            multiples="fines bins",
            fp32="floor",
        ),
        constants={"FINE": 64, "COARSE": 128, "FINE_HALVINGS": 6, "HALVINGS": 7},
        warps=1,
        registers=80,
    ),
    Kernel(
        name="rows of rays",
        function=conditions._fill,
        arguments=typed(floats="directions code exposure out", i32="count", multiples="code_stride", fp32="scale"),
        constants={"code_step": 1, "WIDTH": 56, "CODES": 32, "BLOCK": BLOCK},
    ),
    Kernel(
        name="places of intervals",
        function=intervals._place,
        arguments=typed(
            floats="edges origins directions radii distances middles points footprints",
            i32="count width",
            fp32="low span knee",
        ),
        constants={"BLOCK": BLOCK},
    ),
    Kernel(
        name="contract",
        function=contraction._contract,
        arguments=typed(floats="points footprints cube radii", i32="count", fp32="east north up scale"),
        constants={"BLOCK": BLOCK},
    ),
    Kernel(
        name="contract, back",
        function=contraction._to_points,
        arguments=typed(floats="points gradients out", i32="count", fp32="east north up scale"),
        constants={"BLOCK": BLOCK},
    ),
    Kernel(
        name="adam",
        function=adam._step,
        arguments=typed(
            floats="parameter gradient first second step rate",
            halves="half",
            fp32="keep_first keep_second new_first new_second log_first log_second epsilon largest",
            multiples="count",
        ),
        constants={"STEP_IN_MEMORY": True, "RATE_IN_MEMORY": True, "GROUPS": adam.GROUPS},
    ),
)
