"""Hash-grid MLP and radiance of samples: backend choice."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.radiance import layered_impl
from blocknerf.kernels.radiance.params import ColorParams, HashGridParams, unfit


def grid_network(
    params: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None = None,
    ray_bias: Float[Tensor, "rays hidden"] | None = None,
    backend: Backend = "auto",
) -> Float[Tensor, "points outputs"]:
    """Return outputs of an MLP on a hash grid at points of the unit cube; once differentiable in all but footprints.

    `ray_bias` is added to the first layer for all points of a ray, as in `mlp`.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    if choose("radiance", backend, points, params.table, unfit=unfit(params)) == "triton":
        from blocknerf.kernels.radiance import triton_impl

        return triton_impl.grid_network(params, points, footprints, ray_bias)
    return layered_impl.grid_network(params, points, footprints, ray_bias, backend)


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"],
    *,
    half_extent: float,
    gradient_scale: Float[Tensor, "points"] | None = None,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """Return density (per world unit) and color (0..1) of points of the unit cube.

    Once differentiable in the points, the table and all weights. `ray_bias` is added to the color network's first
    layer, one row per ray. Gradients of the hash-grid MLP's outputs are multiplied by `gradient_scale`.

    Raises:
        BackendError: The requested backend cannot be used here.
        ValueError: The shapes do not match.
    """
    backend_name = choose("radiance", backend, points, field.table, ray_bias, unfit=unfit(field, color))
    if backend_name == "triton":
        from blocknerf.kernels.radiance import triton_impl

        return triton_impl.radiance(field, color, points, footprints, ray_bias, half_extent, gradient_scale)
    if backend_name == "numba":
        from blocknerf.kernels.radiance import numba_impl

        return numba_impl.radiance(field, color, points, footprints, ray_bias, half_extent, gradient_scale)
    return layered_impl.radiance(field, color, points, footprints, ray_bias, half_extent, gradient_scale, backend)
