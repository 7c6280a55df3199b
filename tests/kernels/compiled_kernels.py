"""The Triton kernels that are compiled without a GPU, each with a typical call's types and its bound on registers."""

from dataclasses import dataclass, field
from typing import Any

from blocknerf.kernels.adam import fused as adam
from blocknerf.kernels.contraction import fused as contraction
from blocknerf.kernels.histograms import fused as histograms
from blocknerf.kernels.quadrature import fused as quadrature
from blocknerf.kernels.resampling import fused as resampling
from blocknerf.kernels.tiles import BLOCK

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
    registers: int = 64


def typed(**names: str) -> dict[str, str]:
    """Types by argument, from a text of arguments by type: `typed(i32="rays samples")`.

    `floats` and `halves` are aligned pointers, `multiples` integers that 16 divides.
    """
    types = {"floats": FLOATS, "halves": HALVES, "multiples": "i32:16"}
    return {name: types.get(kind, kind) for kind, text in names.items() for name in text.split()}


KERNELS = (
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
        arguments=typed(floats="weights colors sky out passed", multiples="samples"),
        constants={"WIDTH": 64},
        warps=1,
    ),
    Kernel(
        name="composite, back",
        function=quadrature._composite_back,
        arguments=typed(floats="weights colors sky gradients to_weights to_colors", i32="count", multiples="samples"),
        constants={"BLOCK": BLOCK},
    ),
    Kernel(
        name="resample",
        function=resampling._resample,
        arguments=typed(floats="edges weights jitter cumulative out", fp32="padding", multiples="bins", i32="finer"),
        constants={"COARSE": 128, "FINE": 128, "HALVINGS": 7},
        warps=1,
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
            fp32="keep_first keep_second new_first new_second log_first log_second epsilon decay largest",
            multiples="count",
        ),
        constants={"STEP_IN_MEMORY": True, "RATE_IN_MEMORY": True, "ZERO_GRADIENT": True, "GROUPS": adam.GROUPS},
    ),
)
