"""Hash-grid features of samples through small networks, with the backend chosen."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.radiance import layered_impl
from blocknerf.kernels.radiance.params import ColorParams, HashGridParams, unfit


def grid_network(
    part: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None = None,
    row_bias: Float[Tensor, "rays hidden"] | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "points outputs"]:
    """Outputs of a network on top of a hash grid at points of the unit cube; differentiable once in all but footprints.

    `row_bias` adds to the first layer and is shared by the points of a ray, as in `mlp`.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    if choose("radiance", backend, points, part.table, unfit=unfit(part)) == "triton":
        from blocknerf.kernels.radiance import triton_impl

        return triton_impl.grid_network(part, points, footprints, row_bias)
    return layered_impl.grid_network(part, points, footprints, row_bias, backend)


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"],
    *,
    half_extent: float,
    fade: Float[Tensor, "points"] | None = None,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """Density, per world unit, and color in 0..1 of points of the unit cube, from grid to color.

    Differentiable once in the points and in all that the networks are made of. `row_bias` adds to the color network's
    first layer, one row a ray. Gradients of what the grid's network gives are multiplied by `fade` on their way back.

    Raises:
        BackendError: the backend asked for cannot be used here.
        ValueError: the shapes do not fit each other.
    """
    chosen = choose("radiance", backend, points, field.table, row_bias, unfit=unfit(field, color))
    if chosen == "triton":
        from blocknerf.kernels.radiance import triton_impl

        return triton_impl.radiance(field, color, points, footprints, row_bias, half_extent, fade)
    if chosen == "numba":
        from blocknerf.kernels.radiance import numba_impl

        return numba_impl.radiance(field, color, points, footprints, row_bias, half_extent, fade)
    return layered_impl.radiance(field, color, points, footprints, row_bias, half_extent, fade, backend)
