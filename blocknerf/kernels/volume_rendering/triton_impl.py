"""Quadrature in Triton for a GPU, float32: a tile of whole rays a program, sums along them by scans in registers."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.triton_ops import BLOCK, absorbed, ray_tile

RAYS = 4
"""Of a program that composites, one a warp."""


def weights_from_density(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"]]:
    """What `reference.weights_from_density` gives, in one kernel each way."""
    return _Weights.apply(density.contiguous(), distances.detach().contiguous())


def composite(
    weights: Float[Tensor, "rays samples"], colors: Float[Tensor, "rays samples 3"], sky: Float[Tensor, "rays 3"]
) -> Float[Tensor, "rays 3"]:
    """What `reference.composite` gives, in one kernel each way."""
    return _Composite.apply(weights.contiguous(), colors.contiguous(), sky.contiguous())


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        weights, transmittance = torch.empty_like(density), torch.empty_like(density)
        _launch(_weigh, density.shape, density.detach(), distances, weights, transmittance)
        ctx.save_for_backward(distances, weights, transmittance)
        ctx.mark_non_differentiable(transmittance)
        ctx.set_materialize_grads(False)
        return weights, transmittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, None]:
        if gradients is None:
            return None, None
        slopes = torch.empty_like(gradients, memory_format=torch.contiguous_format)
        saved = [tensor.detach() for tensor in ctx.saved_tensors]
        _launch(_weigh_back, gradients.shape, *saved, gradients.contiguous(), slopes)
        return slopes, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, colors: Tensor, sky: Tensor) -> Tensor:
        out, passed = torch.empty_like(sky), sky.new_empty(len(sky))
        tensors = [tensor.detach() for tensor in (weights, colors, sky)]
        rays, samples = weights.shape
        if rays:
            grid, width = (triton.cdiv(rays, RAYS),), ray_tile(samples)[1]
            _composite[grid](*tensors, out, passed, rays, samples, RAYS=RAYS, WIDTH=width)
        ctx.save_for_backward(weights, colors, sky, passed)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, ...]:
        weights, colors, sky, passed = (tensor.detach() for tensor in ctx.saved_tensors)
        to_weights, to_colors = torch.empty_like(weights), torch.empty_like(colors)
        tensors = (weights, colors, sky, gradients.contiguous(), to_weights, to_colors)
        count, samples = weights.numel(), weights.shape[1]
        if count:
            _composite_back[(triton.cdiv(count, BLOCK),)](*tensors, count, samples, BLOCK=BLOCK)
        return to_weights, to_colors, passed[:, None] * gradients


def _launch(kernel: Any, shape: torch.Size, *tensors: Tensor) -> None:
    rays, samples = shape
    size, width = ray_tile(samples)
    if rays:
        kernel[(triton.cdiv(rays, size),)](*tensors, rays, samples, RAYS=size, WIDTH=width)


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _weigh(density, distances, weights, transmittance, rays, samples, RAYS: tl.constexpr, WIDTH: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * RAYS
    row, column = tl.arange(0, RAYS)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (row < rays - first) & (column < samples)
    behind = inside & (column > 0)
    at, edge = row * samples + column, row * (samples + 1) + column
    density += first * samples
    distances += first * (samples + 1)
    start = tl.load(distances + edge, mask=inside, other=0.0)
    thickness = tl.load(density + at, mask=inside, other=0.0)
    thickness *= tl.load(distances + edge + 1, mask=inside, other=0.0) - start
    # The sum before a sample is a sum of those before: to take a thick one out of its own sum leaves rounding.
    passed = tl.load(density + at - 1, mask=behind, other=0.0)
    passed *= start - tl.load(distances + edge - 1, mask=behind, other=0.0)
    passed = tl.exp(-tl.cumsum(tl.where(behind, passed, 0.0), 1))
    tl.store(transmittance + first * samples + at, passed, mask=inside)
    tl.store(weights + first * samples + at, passed * absorbed(thickness), mask=inside)


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _weigh_back(
    distances, weights, transmittance, gradients, slopes, rays, samples, RAYS: tl.constexpr, WIDTH: tl.constexpr
):
    first = tl.program_id(0).to(tl.int64) * RAYS
    row, column = tl.arange(0, RAYS)[:, None], tl.arange(0, WIDTH)[None, :]
    inside = (row < rays - first) & (column < samples)
    ahead = inside & (column + 1 < samples)
    at, edge = row * samples + column, row * (samples + 1) + column
    distances += first * (samples + 1)
    weights += first * samples
    gradients += first * samples
    # What the samples behind would lose.
    lost = tl.load(gradients + at + 1, mask=ahead, other=0.0) * tl.load(weights + at + 1, mask=ahead, other=0.0)
    lost = tl.cumsum(lost, 1, reverse=True)
    passed = tl.load(transmittance + first * samples + at, mask=inside, other=0.0)
    passed -= tl.load(weights + at, mask=inside, other=0.0)
    width = tl.load(distances + edge + 1, mask=inside, other=0.0) - tl.load(distances + edge, mask=inside, other=0.0)
    slope = width * (tl.load(gradients + at, mask=inside, other=0.0) * passed - lost)
    tl.store(slopes + first * samples + at, slope, mask=inside)


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _composite(weights, colors, sky, out, passed, rays, samples, RAYS: tl.constexpr, WIDTH: tl.constexpr):
    # One ray a warp: colors lie three apart, and with more lanes would run across rays.
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    there, column = ray < rays, tl.arange(0, WIDTH)[None, :]
    inside = there[:, None] & (column < samples)
    at = ray[:, None] * samples + column
    weight = tl.load(weights + at, mask=inside, other=0.0)
    rest = 1.0 - tl.sum(weight, 1)
    tl.store(passed + ray, rest, mask=there)
    for channel in tl.static_range(3):
        color = tl.load(colors + at * 3 + channel, mask=inside, other=0.0)
        behind = tl.load(sky + ray * 3 + channel, mask=there, other=0.0)
        tl.store(out + ray * 3 + channel, tl.sum(weight * color, 1) + rest * behind, mask=there)


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _composite_back(
    weights, colors, sky, gradients, to_weights, to_colors, count, samples, BLOCK: tl.constexpr
):  # fmt: skip
    # Sample by sample: to spread what rays share over a tile would take a dozen barriers; to load it again is cheap.
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = lane < count - first
    ray = (tl.program_id(0) * BLOCK + lane) // samples
    weight = tl.load(weights + first + lane, mask=inside, other=0.0)
    slope = tl.zeros_like(weight)
    for channel in tl.static_range(3):
        one = first * 3 + channel
        gradient = tl.load(gradients + ray * 3 + channel, mask=inside, other=0.0)
        behind = tl.load(sky + ray * 3 + channel, mask=inside, other=0.0)
        slope += gradient * (tl.load(colors + one + lane * 3, mask=inside, other=0.0) - behind)
        tl.store(to_colors + one + lane * 3, weight * gradient, mask=inside)
    tl.store(to_weights + first + lane, slope, mask=inside)
