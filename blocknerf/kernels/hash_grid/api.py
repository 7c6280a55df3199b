"""Hash-grid encoding of points."""

from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation
from blocknerf.kernels.hash_grid.spec import GridSpec, check_table, unfit_grid


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
    implementation = find_implementation("hash_grid", backend, *tensors, unfit=unfit_grid(spec))
    return implementation.encode(points, table, spec, footprints, active_levels, half)
