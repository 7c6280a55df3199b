"""Intervals along rays in Triton for a GPU, float32: one kernel where PyTorch makes a dozen."""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.triton_ops import BLOCK
from blocknerf.ray_spacing import RaySpacing


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `reference.make_ray_samples` gives, in one kernel and without gradients."""
    count, width = edges.shape
    distances, middles = edges.new_empty(count, width), edges.new_empty(count, width - 1)
    points, footprints = edges.new_empty(count, width - 1, 3), edges.new_empty(count, width - 1)
    if count and width:
        given = [tensor.contiguous() for tensor in (edges, rays.origins, rays.directions, rays.pixel_radii)]
        low, high = spacing.s_range
        _place[(triton.cdiv(count * width, BLOCK),)](
            *given, distances, middles, points, footprints, count * width, width, low, high - low,
            float(spacing.linear_until), BLOCK=BLOCK,
        )  # fmt: skip
    return distances, middles, points, footprints


@triton.jit
@no_type_check
def distance_at(position, low, span, knee):
    """Distance along a ray of a normalized position (`Spacing.distance`)."""
    squashed = position * span + low
    left = 1.0 - squashed
    return knee * tl.where(squashed < 0.5, 2.0 * squashed, 0.5 / tl.where(left < 1e-9, 1e-9, left))


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _place(
    edges, origins, directions, radii, distances, middles, points, footprints, count, width, low, span, knee,
    BLOCK: tl.constexpr,
):  # fmt: skip
    edge = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = edge < count
    ray = edge // width
    start = distance_at(tl.load(edges + edge, mask=inside, other=0.0), low, span, knee)
    tl.store(distances + edge, start, mask=inside)
    # The last edge of a ray begins no interval.
    inside = inside & (edge % width + 1 < width)
    middle = 0.5 * (distance_at(tl.load(edges + edge + 1, mask=inside, other=0.0), low, span, knee) + start)
    at = edge - ray
    tl.store(middles + at, middle, mask=inside)
    tl.store(footprints + at, middle * tl.load(radii + ray, mask=inside, other=0.0), mask=inside)
    for axis in tl.static_range(3):
        origin = tl.load(origins + 3 * ray + axis, mask=inside, other=0.0)
        along = tl.load(directions + 3 * ray + axis, mask=inside, other=0.0)
        tl.store(points + 3 * at + axis, origin + middle * along, mask=inside)
