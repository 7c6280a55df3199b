"""Triton (GPU, float32) volume rendering: each program holds a tile of whole rays and scans along them in registers."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.triton_ops import BLOCK_SIZE, one_minus_exp_neg, ray_tile

RAYS = 4
"""Rays per compositing program, one per warp."""


def weights_from_density(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"]]:
    """Triton version of `torch_impl.weights_from_density`: one kernel forward, one backward."""
    return _Weights.apply(density.contiguous(), distances.detach().contiguous())


def composite(
    weights: Float[Tensor, "rays samples"], colors: Float[Tensor, "rays samples 3"], sky: Float[Tensor, "rays 3"]
) -> Float[Tensor, "rays 3"]:
    """Triton version of `torch_impl.composite`: one kernel forward, one backward."""
    return _Composite.apply(weights.contiguous(), colors.contiguous(), sky.contiguous())


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        weights, transmittance = torch.empty_like(density), torch.empty_like(density)
        _launch(_weights_forward, density.shape, density.detach(), distances, weights, transmittance)
        ctx.save_for_backward(distances, weights, transmittance)
        ctx.mark_non_differentiable(transmittance)
        ctx.set_materialize_grads(False)
        return weights, transmittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, None]:
        if gradients is None:
            return None, None
        grad_density = torch.empty_like(gradients, memory_format=torch.contiguous_format)
        saved = [tensor.detach() for tensor in ctx.saved_tensors]
        _launch(_weights_backward, gradients.shape, *saved, gradients.contiguous(), grad_density)
        return grad_density, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, colors: Tensor, sky: Tensor) -> Tensor:
        out, transmitted = torch.empty_like(sky), sky.new_empty(len(sky))
        tensors = [tensor.detach() for tensor in (weights, colors, sky)]
        rays, samples = weights.shape
        if rays:
            grid, width = (triton.cdiv(rays, RAYS),), ray_tile(samples)[1]
            _composite_forward[grid](*tensors, out, transmitted, rays, samples, RAYS=RAYS, WIDTH=width)
        ctx.save_for_backward(weights, colors, sky, transmitted)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, ...]:
        weights, colors, sky, transmitted = (tensor.detach() for tensor in ctx.saved_tensors)
        grad_weights, grad_colors = torch.empty_like(weights), torch.empty_like(colors)
        tensors = (weights, colors, sky, gradients.contiguous(), grad_weights, grad_colors)
        count, samples = weights.numel(), weights.shape[1]
        if count:
            _composite_backward[(triton.cdiv(count, BLOCK_SIZE),)](*tensors, count, samples, BLOCK_SIZE=BLOCK_SIZE)
        return grad_weights, grad_colors, transmitted[:, None] * gradients


def _launch(kernel: Any, shape: torch.Size, *tensors: Tensor) -> None:
    rays, samples = shape
    size, width = ray_tile(samples)
    if rays:
        kernel[(triton.cdiv(rays, size),)](*tensors, rays, samples, RAYS=size, WIDTH=width)


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _weights_forward(
    density, distances, weights, transmittance, rays, samples, RAYS: tl.constexpr, WIDTH: tl.constexpr
):
    start_ray = tl.program_id(0).to(tl.int64) * RAYS
    row, column = tl.arange(0, RAYS)[:, None], tl.arange(0, WIDTH)[None, :]
    mask = (row < rays - start_ray) & (column < samples)
    behind = mask & (column > 0)
    offset, edge = row * samples + column, row * (samples + 1) + column
    density += start_ray * samples
    distances += start_ray * (samples + 1)
    start = tl.load(distances + edge, mask=mask, other=0.0)
    thickness = tl.load(density + offset, mask=mask, other=0.0)
    thickness *= tl.load(distances + edge + 1, mask=mask, other=0.0) - start
    # Sum only the samples before: subtracting a thick sample from its own inclusive sum leaves rounding errors.
    transmitted = tl.load(density + offset - 1, mask=behind, other=0.0)
    transmitted *= start - tl.load(distances + edge - 1, mask=behind, other=0.0)
    transmitted = tl.exp(-tl.cumsum(tl.where(behind, transmitted, 0.0), 1))
    tl.store(transmittance + start_ray * samples + offset, transmitted, mask=mask)
    tl.store(weights + start_ray * samples + offset, transmitted * one_minus_exp_neg(thickness), mask=mask)


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _weights_backward(
    distances, weights, transmittance, gradients, grad_density, rays, samples, RAYS: tl.constexpr, WIDTH: tl.constexpr
):
    start_ray = tl.program_id(0).to(tl.int64) * RAYS
    row, column = tl.arange(0, RAYS)[:, None], tl.arange(0, WIDTH)[None, :]
    mask = (row < rays - start_ray) & (column < samples)
    ahead = mask & (column + 1 < samples)
    offset, edge = row * samples + column, row * (samples + 1) + column
    distances += start_ray * (samples + 1)
    weights += start_ray * samples
    gradients += start_ray * samples
    # Weight gradient of the samples behind.
    lost = tl.load(gradients + offset + 1, mask=ahead, other=0.0) * tl.load(weights + offset + 1, mask=ahead, other=0.0)
    lost = tl.cumsum(lost, 1, reverse=True)
    transmitted = tl.load(transmittance + start_ray * samples + offset, mask=mask, other=0.0)
    transmitted -= tl.load(weights + offset, mask=mask, other=0.0)
    width = tl.load(distances + edge + 1, mask=mask, other=0.0) - tl.load(distances + edge, mask=mask, other=0.0)
    grad = width * (tl.load(gradients + offset, mask=mask, other=0.0) * transmitted - lost)
    tl.store(grad_density + start_ray * samples + offset, grad, mask=mask)


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _composite_forward(weights, colors, sky, out, transmitted, rays, samples, RAYS: tl.constexpr, WIDTH: tl.constexpr):
    # One ray per warp: colors have a stride of three, and with more lanes would run across rays.
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    ray_mask, column = ray < rays, tl.arange(0, WIDTH)[None, :]
    mask = ray_mask[:, None] & (column < samples)
    offset = ray[:, None] * samples + column
    weight = tl.load(weights + offset, mask=mask, other=0.0)
    left = 1.0 - tl.sum(weight, 1)
    tl.store(transmitted + ray, left, mask=ray_mask)
    for channel in tl.static_range(3):
        color = tl.load(colors + offset * 3 + channel, mask=mask, other=0.0)
        behind = tl.load(sky + ray * 3 + channel, mask=ray_mask, other=0.0)
        tl.store(out + ray * 3 + channel, tl.sum(weight * color, 1) + left * behind, mask=ray_mask)


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _composite_backward(
    weights, colors, sky, gradients, grad_weights, grad_colors, count, samples, BLOCK_SIZE: tl.constexpr
):  # fmt: skip
    # Per sample: broadcasting per-ray values over a tile would take a dozen barriers; loading them again is cheap.
    start_ray = tl.program_id(0).to(tl.int64) * BLOCK_SIZE
    lane = tl.arange(0, BLOCK_SIZE)
    mask = lane < count - start_ray
    ray = (tl.program_id(0) * BLOCK_SIZE + lane) // samples
    weight = tl.load(weights + start_ray + lane, mask=mask, other=0.0)
    grad = tl.zeros_like(weight)
    for channel in tl.static_range(3):
        channel_start = start_ray * 3 + channel
        gradient = tl.load(gradients + ray * 3 + channel, mask=mask, other=0.0)
        behind = tl.load(sky + ray * 3 + channel, mask=mask, other=0.0)
        grad += gradient * (tl.load(colors + channel_start + lane * 3, mask=mask, other=0.0) - behind)
        tl.store(grad_colors + channel_start + lane * 3, weight * gradient, mask=mask)
    tl.store(grad_weights + start_ray + lane, grad, mask=mask)
