"""The hash-grid encoding of points, with the backend chosen and the input checked."""

import math

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.hash_grid import reference
from blocknerf.kernels.hash_grid.spec import GridSpec


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None = None,
    backend: Backend = "auto",
    active_levels: float | None = None,
) -> Float[Tensor, "points encoded"]:
    """Features of points in the unit cube (Mueller et al. 2022), differentiable once in `points` and `table`.

    Points outside the cube are clamped to it. `footprints` are the samples' standard deviations in unit-cube lengths:
    levels with finer cells fade out (see `reference.antialiasing`); they are taken as constants. `active_levels` fades
    levels in from coarse to fine while poses move (see `level_gains`).

    Raises:
        BackendError: the backend asked for cannot be used here.
        ValueError: the table does not have the shape the spec asks for.
    """
    if table.shape != (spec.entries, spec.features):
        raise ValueError(f"hash grid: table is {tuple(table.shape)}, the spec asks for {(spec.entries, spec.features)}")
    footprints = None if footprints is None else footprints.detach()
    tensors = (points, table) if footprints is None else (points, table, footprints)
    gains = level_gains(spec.levels, active_levels)
    if choose("hash_grid", backend, *tensors) == "native":
        from blocknerf.kernels.hash_grid import native

        return native.encode(points, table, spec, footprints, gains)
    return reference.encode(points, table, spec, footprints, gains)


def level_gains(levels: int, active_levels: float | None) -> tuple[float, ...]:
    """The gain of each level when `active_levels` of them are on, the last one partly (BARF, Lin et al. 2021, eq. 14).

    >>> level_gains(3, 1.5)
    (1.0, 0.5, 0.0)
    """
    if active_levels is None:
        return (1.0,) * levels
    shares = (min(max(active_levels - level, 0.0), 1.0) for level in range(levels))
    return tuple(round(0.5 - 0.5 * math.cos(math.pi * share), 12) for share in shares)
