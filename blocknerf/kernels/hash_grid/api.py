"""Hash-grid encoding of points: input checks and backend choice."""

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
    """Return features of points in the unit cube (Mueller et al. 2022), once differentiable in `points` and `table`.

    Points outside the cube are clamped to it. `footprints` are the samples' standard deviations in unit-cube lengths,
    treated as constants; levels with finer cells fade out (see `torch_impl.antialiasing`). `active_levels` fades levels
    in from coarse to fine while poses are refined (see `level_weights`). If it changes within a captured graph, pass it
    as a tensor on the device. `half` is a copy of the table that the triton backend reads; None makes one.

    Raises:
        BackendError: The requested backend cannot be used here.
        ValueError: The table does not have the shape of the spec.
    """
    check_table(table, spec)
    footprints = None if footprints is None else footprints.detach()
    tensors = (points, table) if footprints is None else (points, table, footprints)
    backend_name = choose("hash_grid", backend, *tensors, unfit=unfit_grid(spec))
    if backend_name == "triton":
        from blocknerf.kernels.hash_grid import triton_impl

        return triton_impl.encode(
            points, table, spec, footprints, level_weights_on_device(spec, active_levels, table), half
        )
    if backend_name == "tcnn":
        from blocknerf.kernels.hash_grid import tcnn_impl

        return tcnn_impl.encode(points, table, spec, footprints, level_weights_on_device(spec, active_levels, table))
    gains = level_weights(spec.num_levels, active_levels)
    if backend_name == "numba":
        from blocknerf.kernels.hash_grid import numba_impl

        return numba_impl.encode(points, table, spec, footprints, gains)
    return torch_impl.encode(points, table, spec, footprints, gains)


def unfit_grid(spec: GridSpec) -> dict[str, str]:
    """Return what exceeds a backend's `backends.LIMITS`, by backend."""
    supported = {"triton": (2, 4), "tcnn": (1, 2, 4, 8)}
    return {
        name: f"{spec.features_per_level} features per entry"
        for name in supported
        if spec.features_per_level not in supported[name]
    }


def check_table(table: Tensor, spec: GridSpec) -> None:
    """Check the shape of a table.

    Raises:
        ValueError: The table does not have the shape of the spec.
    """
    if table.shape != (spec.num_entries, spec.features_per_level):
        expected = spec.num_entries, spec.features_per_level
        raise ValueError(f"hash grid: table is {tuple(table.shape)}, but the spec needs {expected}")


def level_weights(levels: int, active_levels: float | Tensor | None) -> tuple[float, ...]:
    """Return the weight of each level if `active_levels` are on, the last one partly (BARF, Lin et al. 2021, eq. 14).

    >>> level_weights(3, 1.5)
    (1.0, 0.5, 0.0)
    """
    if active_levels is None:
        return (1.0,) * levels
    fractions = (min(max(float(active_levels) - level, 0.0), 1.0) for level in range(levels))
    return tuple(round(0.5 - 0.5 * math.cos(math.pi * fraction), 12) for fraction in fractions)


def level_weights_on_device(
    spec: GridSpec, active_levels: float | Tensor | None, like: Tensor
) -> Float[Tensor, "levels"] | None:
    """Return `level_weights` on the device of `like`, without synchronizing; None if all are one."""
    if active_levels is None:
        return None
    levels = torch.arange(spec.num_levels, device=like.device, dtype=torch.float32)
    return 0.5 - 0.5 * torch.cos(torch.pi * (active_levels - levels).clamp(0.0, 1.0))
