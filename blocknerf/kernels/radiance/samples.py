"""Hash-grid features of samples through small networks, with the backend chosen."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.radiance import layered
from blocknerf.kernels.radiance.layers import ColorLayers, GridLayers


def grid_network(
    part: GridLayers,
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
    if choose("radiance", backend, points, part.table) == "fused" and fits(part, None, backend):
        from blocknerf.kernels.radiance import fused

        return fused.grid_network(part, points, footprints, row_bias)
    return layered.grid_network(part, points, footprints, row_bias, backend)


def radiance(
    field: GridLayers,
    color: ColorLayers,
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
    chosen = choose("radiance", backend, points, field.table, row_bias)
    if chosen == "fused" and fits(field, color, backend):
        from blocknerf.kernels.radiance import fused

        return fused.radiance(field, color, points, footprints, row_bias, half_extent, fade)
    if chosen == "native":
        from blocknerf.kernels.radiance import native

        return native.radiance(field, color, points, footprints, row_bias, half_extent, fade)
    return layered.radiance(field, color, points, footprints, row_bias, half_extent, fade, backend)


def fits(part: GridLayers, color: ColorLayers | None, backend: Backend) -> bool:
    """Whether the fused kernels know networks of this form: what was asked for by name is never replaced.

    Raises:
        ValueError: they do not, and were asked for.
    """
    depths = len(part.weights) == 2 and (color is None or len(color.weights) == 3)
    tint = color.weights[0].shape[0] if color else 16
    if depths and part.grid.features in (2, 4) and tint in (16, 32, 64):
        return True
    if backend == "fused":
        raise ValueError(
            "radiance: the fused kernels know 2 or 4 features an entry, 2 layers, and 3 color layers of 16, 32 or 64"
        )
    return False
