"""Triton (GPU, float32) ray samples: one kernel where PyTorch makes a dozen."""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.triton_ops import BLOCK_SIZE


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Triton version of `torch_impl.make_ray_samples`, one kernel, without gradients."""
    count, width = edges.shape
    t_edges, t_mids = edges.new_empty(count, width), edges.new_empty(count, width - 1)
    points, sample_radii = edges.new_empty(count, width - 1, 3), edges.new_empty(count, width - 1)
    if count and width:
        inputs = [tensor.detach().contiguous() for tensor in (edges, rays.origins, rays.directions, rays.pixel_radii)]
        s_near, high = spacing.s_range
        _make_ray_samples[(triton.cdiv(count * width, BLOCK_SIZE),)](
            *inputs, t_edges, t_mids, points, sample_radii, count * width, width, s_near, high - s_near,
            float(spacing.linear_until), BLOCK_SIZE=BLOCK_SIZE,
        )  # fmt: skip
    return t_edges, t_mids, points, sample_radii


@triton.jit
@no_type_check
def s_to_t(edge_s, s_near, s_extent, linear_until):
    """Return the distance along a ray of a normalized position (`RaySpacing.s_to_t`)."""
    s = edge_s * s_extent + s_near
    rest = 1.0 - s
    return linear_until * tl.where(s < 0.5, 2.0 * s, 0.5 / tl.where(rest < 1e-9, 1e-9, rest))


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _make_ray_samples(
    edges, origins, directions, radii, t_edges, t_mids, points, sample_radii, count, width, s_near, s_extent,
    linear_until, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    edge = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = edge < count
    ray = edge // width
    start = s_to_t(tl.load(edges + edge, mask=mask, other=0.0), s_near, s_extent, linear_until)
    tl.store(t_edges + edge, start, mask=mask)
    # The last edge of a ray starts no interval.
    mask = mask & (edge % width + 1 < width)
    t_mid = 0.5 * (s_to_t(tl.load(edges + edge + 1, mask=mask, other=0.0), s_near, s_extent, linear_until) + start)
    offset = edge - ray
    tl.store(t_mids + offset, t_mid, mask=mask)
    tl.store(sample_radii + offset, t_mid * tl.load(radii + ray, mask=mask, other=0.0), mask=mask)
    for axis in tl.static_range(3):
        origin = tl.load(origins + 3 * ray + axis, mask=mask, other=0.0)
        direction = tl.load(directions + 3 * ray + axis, mask=mask, other=0.0)
        tl.store(points + 3 * offset + axis, origin + t_mid * direction, mask=mask)
