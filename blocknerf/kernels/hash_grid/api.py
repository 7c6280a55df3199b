"""The hash-grid encoding of points, with the backend chosen and the input checked."""

import math

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.hash_grid import torch_impl
from blocknerf.kernels.hash_grid.spec import GridSpec


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None = None,
    backend: Backend = "auto",
    active_levels: float | Tensor | None = None,
    half: Float16[Tensor, "entries features"] | None = None,
) -> Float[Tensor, "points encoded"]:
    """Features of points in the unit cube (Mueller et al. 2022), differentiable once in `points` and `table`.

    Points outside the cube are clamped to it. `footprints` are the samples' standard deviations in unit-cube lengths:
    levels with finer cells fade out (see `torch_impl.antialiasing`); they are taken as constants. `active_levels` fades
    levels in from coarse to fine while poses move (see `level_weights`); where it changes in a captured graph it is a
    number on the device. `half` is a copy of the table that the fused backend reads, made anew where there is none.

    Raises:
        BackendError: the backend asked for cannot be used here.
        ValueError: the table does not have the shape the spec asks for.
    """
    check_table(table, spec)
    footprints = None if footprints is None else footprints.detach()
    tensors = (points, table) if footprints is None else (points, table, footprints)
    chosen = choose("hash_grid", backend, *tensors, unfit=unfit_grid(spec))
    if chosen == "triton":
        from blocknerf.kernels.hash_grid import triton_impl

        return triton_impl.encode(
            points, table, spec, footprints, level_weights_on_device(spec, active_levels, table), half
        )
    if chosen == "tcnn":
        from blocknerf.kernels.hash_grid import tcnn_impl

        return tcnn_impl.encode(points, table, spec, footprints, level_weights_on_device(spec, active_levels, table))
    gains = level_weights(spec.num_levels, active_levels)
    if chosen == "numba":
        from blocknerf.kernels.hash_grid import numba_impl

        return numba_impl.encode(points, table, spec, footprints, gains)
    return torch_impl.encode(points, table, spec, footprints, gains)


def unfit_grid(spec: GridSpec) -> dict[str, str]:
    """What of a grid is beyond a backend, by backend (`backends.LIMITS`)."""
    known = {"triton": (2, 4), "tcnn": (1, 2, 4, 8)}
    return {
        name: f"{spec.features_per_level} features an entry"
        for name in known
        if spec.features_per_level not in known[name]
    }


def check_table(table: Tensor, spec: GridSpec) -> None:
    """Refuse a table that has not the shape its spec asks for.

    Raises:
        ValueError: it has not.
    """
    if table.shape != (spec.num_entries, spec.features_per_level):
        raise ValueError(
            f"hash grid: table is {tuple(table.shape)}, the spec asks for {(spec.num_entries, spec.features_per_level)}"
        )


def level_weights(levels: int, active_levels: float | Tensor | None) -> tuple[float, ...]:
    """The gain of each level when `active_levels` of them are on, the last one partly (BARF, Lin et al. 2021, eq. 14).

    >>> level_weights(3, 1.5)
    (1.0, 0.5, 0.0)
    """
    if active_levels is None:
        return (1.0,) * levels
    shares = (min(max(float(active_levels) - level, 0.0), 1.0) for level in range(levels))
    return tuple(round(0.5 - 0.5 * math.cos(math.pi * share), 12) for share in shares)


def level_weights_on_device(
    spec: GridSpec, active_levels: float | Tensor | None, beside: Tensor
) -> Float[Tensor, "levels"] | None:
    """The gains of `level_weights` where another tensor is, without waiting for it; None where all are one."""
    if active_levels is None:
        return None
    levels = torch.arange(spec.num_levels, device=beside.device, dtype=torch.float32)
    return 0.5 - 0.5 * torch.cos(torch.pi * (active_levels - levels).clamp(0.0, 1.0))
