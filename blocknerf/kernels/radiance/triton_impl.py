"""Triton (GPU) hash-grid MLP and radiance: one kernel forward, several backward.

Backward, one or two kernels run the networks. Then the hash grid's kernels propagate the feature gradients to the table
and, while poses are refined, to the points.
"""

from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend
from blocknerf.kernels.devices import MATMUL_DTYPE, STORAGE_DTYPE
from blocknerf.kernels.hash_grid import level_weights_on_device
from blocknerf.kernels.hash_grid.triton_cells import as_words, level_params
from blocknerf.kernels.hash_grid.triton_impl import points_backward, table_backward, to_half
from blocknerf.kernels.radiance.api import ColorParams, HashGridParams
from blocknerf.kernels.radiance.triton_kernels import color_backward, forward, grid_backward
from blocknerf.kernels.triton_ops import capability, num_programs, padded_width, programs_per_sm

BLOCK_SIZE, GRID_BLOCK_SIZE, COLOR_BLOCK_SIZE = 128, 64, 32
"""Samples per tile: forward, hash-grid MLP backward, color network backward. The more a kernel holds in registers, the
smaller its tile."""
MAX_REGISTERS, GRID_REGISTERS = 255, 168
"""Maximum registers per thread: backward, and in the hash-grid MLP from compute capability 9.0 on, where matrix units
read weights from shared memory. `tests/kernels/compiled_kernels.py` checks the machine code."""
FORWARD_PROGRAMS = 16
"""Programs per multiprocessor, forward, where a program has little setup and no sums. Backward launches as many as fit
on a multiprocessor: with more, the last few would run alone."""


def grid_network(
    params: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"] | None,
    backend: Backend,
) -> Float[Tensor, "points outputs"]:
    """Triton version of `torch_impl.grid_network`, in mixed precision."""
    return _GridNetwork.apply(_Launcher(params), points, footprints, ray_bias, params.table, *_layers(params))


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    ray_bias: Float[Tensor, "rays hidden"],
    half_extent: float,
    gradient_scale: Float[Tensor, "points"] | None,
    backend: Backend,
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """Triton version of `torch_impl.radiance`, in mixed precision."""
    launcher = _Launcher(field, color_hidden=color.weights[0].shape[0], scale=1.0 / half_extent)
    return _Radiance.apply(
        launcher, points, footprints, ray_bias, gradient_scale, field.table, *_layers(field), *_layers(color)
    )


def _layers(params: HashGridParams | ColorParams) -> list[Tensor]:
    """Return weight and bias, layer by layer."""
    return [tensor for pair in zip(params.weights, params.biases, strict=True) for tensor in pair]


class _Launcher:
    """Compile-time constants and non-differentiable arguments of the kernels, and their launches."""

    def __init__(self, params: HashGridParams, *, color_hidden: int = 16, scale: float = 1.0) -> None:
        self.grid, self.color_hidden, self.scale = params.grid, color_hidden, scale
        self.half = to_half(params.table, params.half)
        self.gains = level_weights_on_device(params.grid, params.active_levels, params.table)
        self.outputs, self.hidden = params.weights[1].shape
        # Wide layers need more registers than a few warps have, and so does code compiled for 8.0.
        version, wide = capability(params.table.device), max(self.hidden, color_hidden) > 32
        color_warps = 2 if version >= (8, 9) else 4
        self.shape = {"num_warps": 8 if wide else 4, "num_stages": 1}
        self.grid_shape = {"num_warps": 8 if wide else 4 if self.hidden > 16 else 2, "num_stages": 1}
        self.color_shape = {"num_warps": 8 if wide else color_warps, "num_stages": 1}
        registers = GRID_REGISTERS if version >= (9, 0) and self.grid_shape["num_warps"] > 2 else MAX_REGISTERS
        self.grid_programs = programs_per_sm(self.grid_shape["num_warps"], registers)
        self.color_programs = programs_per_sm(self.color_shape["num_warps"], MAX_REGISTERS)
        self.head = {"OUTPUTS": self.outputs, "PADDED_OUT": padded_width(self.outputs)}
        self.body = {
            "LEVELS": params.grid.num_levels,
            "FEATURES": params.grid.features_per_level,
            "PADDED_IN": padded_width(params.grid.output_dim),
            "HIDDEN": self.hidden,
            "PADDED_HIDDEN": padded_width(self.hidden),
        }

    def forward(
        self, points: Tensor, footprints: Any, ray_bias: Any, layers: Any, keep: bool, color: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Return outputs (or density), features and color, and encoded features as planes (workspace if not kept)."""
        count, grid = len(points), self.grid
        num_launched = num_programs(triton.cdiv(count, BLOCK_SIZE), points.device, FORWARD_PROGRAMS)
        planes = points.new_empty(
            grid.num_levels, count if keep else num_launched * BLOCK_SIZE, grid.features_per_level, dtype=STORAGE_DTYPE
        )
        out = points.new_empty(count) if color else points.new_empty(count, self.outputs)
        features = points.new_empty(count, self.outputs, dtype=STORAGE_DTYPE) if color and keep else None
        colors = points.new_empty(count, 3) if color else None
        if count:
            forward[(num_launched,)](
                points, footprints, self.gains, *level_params(grid, points.device), as_words(self.half),
                as_words(planes.view(-1, grid.features_per_level)), planes, *layers[:4], ray_bias,
                *(layers[4:] or (None,) * 6), out, features, colors, count, _samples_per_ray(count, ray_bias),
                self.scale, **self.body, **self.head, COLOR_HIDDEN=self.color_hidden,
                FOOTPRINTS=footprints is not None, GAINS=self.gains is not None,
                RAY_BIAS=ray_bias is not None, COLOR=color, KEEP=keep, BLOCK_SIZE=BLOCK_SIZE, **self.shape,
            )  # fmt: skip
        return out, features, colors, planes

    def grid_backward(
        self, points: Tensor, footprints: Any, ray_bias: Any, layers: Any, planes: Tensor, grad_out: Any, needs: Any,
        color: Any = None, gradient_scale: Any = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor]]:  # fmt: skip
        """Return gradients of points and table (if needed), of ray biases, and of the hash-grid MLP's layers.

        `color` replaces `grad_out` after `color_backward`: features, the color network's first weights, the gradients
        of that layer's sums, density and the density gradient. The gradient of the first weights then comes last.
        """
        count, color_state = len(points), (None,) * 5 if color is None else color
        trained = [*layers, *([] if color is None else [color[1]])]
        total = sum(layer.numel() for layer in trained)
        num_launched = num_programs(triton.cdiv(count, GRID_BLOCK_SIZE), points.device, self.grid_programs)
        grad_planes, partial = torch.empty_like(planes, dtype=torch.float32), points.new_zeros(num_launched, total)
        samples, pooled = _samples_per_ray(count, ray_bias), _sums_per_ray(count, ray_bias, GRID_BLOCK_SIZE)
        grad_ray_bias = None if ray_bias is None else _ray_bias_gradient_buffer(ray_bias, count, pooled)
        if count:
            grid_backward[(num_launched,)](
                planes, *layers[:3], ray_bias, grad_out, *color_state, gradient_scale, grad_planes, grad_ray_bias,
                partial, count, samples, total, **self.body, **self.head, COLOR_HIDDEN=self.color_hidden,
                RAY_BIAS=ray_bias is not None, COLOR=color is not None, SCALE_GRADIENT=gradient_scale is not None,
                POOLED=pooled, BLOCK_SIZE=GRID_BLOCK_SIZE, **self.grid_shape,
            )  # fmt: skip
        grad_layers = _split(partial, trained)
        inputs = points, footprints, self.gains
        grad_points = points_backward(*inputs, self.half, grad_planes, self.grid) if needs[0] else None
        grad_table = table_backward(*inputs, grad_planes, self.grid) if needs[1] else None
        return grad_points, grad_table, _sum_per_ray(grad_ray_bias, ray_bias), grad_layers

    def color_backward(
        self, features: Tensor, ray_bias: Tensor, layers: Any, color: Any, grad_color: Any
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return gradients of the first layer's sums, of ray biases, and of all layers but the first weights."""
        c1, d1, c2, d2, c3, d3 = layers
        trained = (c2, d2, c3, d3)
        count, total = len(color), sum(layer.numel() for layer in trained)
        num_launched = num_programs(triton.cdiv(count, COLOR_BLOCK_SIZE), color.device, self.color_programs)
        grad_color_hidden = color.new_empty(count, self.color_hidden, dtype=MATMUL_DTYPE)
        partial = color.new_zeros(num_launched, total)
        samples, pooled = _samples_per_ray(count, ray_bias), _sums_per_ray(count, ray_bias, COLOR_BLOCK_SIZE)
        grad_ray_bias = _ray_bias_gradient_buffer(ray_bias, count, pooled)
        if count:
            color_backward[(num_launched,)](
                features, ray_bias, c1, d1, c2, d2, c3, color, grad_color, grad_color_hidden, grad_ray_bias, partial,
                count, samples, total, **self.head, COLOR_HIDDEN=self.color_hidden, POOLED=pooled,
                BLOCK_SIZE=COLOR_BLOCK_SIZE, **self.color_shape,
            )  # fmt: skip
        grad_bias = _sum_per_ray(grad_ray_bias, ray_bias)
        return grad_color_hidden, grad_bias, [grad_bias.sum(0), *_split(partial, trained)]


class _GridNetwork(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, launcher: _Launcher, points: Tensor, footprints: Any, ray_bias: Any, table: Tensor, *layers: Tensor
    ) -> Tensor:
        points, ray_bias = points.contiguous(), None if ray_bias is None else ray_bias.contiguous()
        out, _, _, planes = launcher.forward(
            points, footprints, ray_bias, layers, any(ctx.needs_input_grad), color=False
        )
        ctx.save_for_backward(points, footprints, ray_bias, planes, *layers)
        ctx.launcher = launcher
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        points, footprints, ray_bias, planes, *layers = ctx.saved_tensors
        needs = ctx.needs_input_grad[1], ctx.needs_input_grad[4]
        grad_points, grad_table, grad_ray_bias, grad_layers = ctx.launcher.grid_backward(
            points, footprints, ray_bias, layers, planes, grad_out.contiguous(), needs
        )
        return None, grad_points, None, grad_ray_bias, grad_table, *grad_layers


class _Radiance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, launcher: _Launcher, points: Tensor, footprints: Any, ray_bias: Tensor, gradient_scale: Any,
        table: Tensor, *layers: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        points, ray_bias = points.contiguous(), ray_bias.contiguous()
        keep = any(ctx.needs_input_grad)
        density, features, color, planes = launcher.forward(points, footprints, ray_bias, layers, keep, color=True)
        assert color is not None
        ctx.save_for_backward(points, footprints, ray_bias, gradient_scale, planes, density, features, color, *layers)
        ctx.launcher = launcher
        return density, color

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_density: Tensor, grad_color: Tensor) -> tuple[Tensor | None, ...]:
        points, footprints, ray_bias, gradient_scale, planes, density, features, color, *layers = ctx.saved_tensors
        grad_color_hidden, grad_ray_bias, grad_color_layers = ctx.launcher.color_backward(
            features, ray_bias, layers[4:], color, grad_color.contiguous()
        )
        needs = ctx.needs_input_grad[1], ctx.needs_input_grad[5]
        color_state = features, layers[4], grad_color_hidden, density, grad_density.contiguous()
        grad_points, grad_table, _, (*grad_layers, grad_first_weight) = ctx.launcher.grid_backward(
            points, footprints, None, layers[:4], planes, None, needs, color_state, gradient_scale
        )
        return (
            None, grad_points, None, grad_ray_bias, None, grad_table, *grad_layers, grad_first_weight,
            *grad_color_layers,
        )  # fmt: skip


def _split(partial: Tensor, layers: Any) -> list[Tensor]:
    """Sum the gradient rows of all programs and split them by layer."""
    parts = partial.sum(0).split([layer.numel() for layer in layers])
    return [part.view(layer.shape) for part, layer in zip(parts, layers, strict=True)]


def _sums_per_ray(count: int, ray_bias: Any, block_size: int) -> bool:
    """Return whether the kernel itself sums ray bias gradients per ray.

    A tile then holds parts of at most 16 rays, and a ray is in at most two tiles.
    """
    samples = _samples_per_ray(count, ray_bias)
    return ray_bias is not None and samples <= block_size <= 14 * samples


def _ray_bias_gradient_buffer(ray_bias: Tensor, count: int, pooled: bool) -> Tensor:
    """Allocate gradients of ray biases, per ray if pooled, else per sample."""
    return torch.zeros_like(ray_bias) if pooled else ray_bias.new_empty(count, ray_bias.shape[1])


def _sum_per_ray(grad_ray_bias: Any, ray_bias: Any) -> Any:
    """Return gradients of ray biases, summed over samples if the kernel did not."""
    if grad_ray_bias is None or grad_ray_bias.shape == ray_bias.shape:
        return grad_ray_bias
    samples = _samples_per_ray(len(grad_ray_bias), ray_bias)
    return grad_ray_bias.view(len(ray_bias), samples, grad_ray_bias.shape[1]).sum(1)


def _samples_per_ray(count: int, ray_bias: Any) -> int:
    """Return the samples per ray."""
    return 1 if ray_bias is None else count // max(1, len(ray_bias))
