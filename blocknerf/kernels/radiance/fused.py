"""Grid features through small networks in Triton for a GPU: one kernel forward, three backward.

Backward, one kernel runs the networks, then the hash grid's own scatter what reaches the features to the table, and
where poses are learned to the points.
"""

from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.hash_grid import gains_on_device
from blocknerf.kernels.hash_grid.cells import facts, packed
from blocknerf.kernels.hash_grid.fused import halved, scatter, slopes
from blocknerf.kernels.precision import STORED
from blocknerf.kernels.radiance.backward import color_backward, grid_backward
from blocknerf.kernels.radiance.forward import forward
from blocknerf.kernels.radiance.layers import ColorLayers, GridLayers
from blocknerf.kernels.tiles import programs, room

BLOCK, BACKWARD_BLOCK = 128, 32
"""Samples of a tile; backward, where more is held in registers, fewer."""


def grid_network(
    part: GridLayers,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"] | None,
) -> Float[Tensor, "points outputs"]:
    """What `layered.grid_network` gives, in mixed precision."""
    return _GridNetwork.apply(_Part(part), points, footprints, row_bias, part.table, *_layers(part))


def radiance(
    field: GridLayers,
    color: ColorLayers,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"],
    half_extent: float,
    fade: Float[Tensor, "points"] | None,
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """What `layered.radiance` gives, in mixed precision."""
    part = _Part(field, tint=color.weights[0].shape[0], scale=1.0 / half_extent)
    return _Radiance.apply(part, points, footprints, row_bias, fade, field.table, *_layers(field), *_layers(color))


def _layers(part: GridLayers | ColorLayers) -> list[Tensor]:
    """Weight and bias, layer by layer."""
    return [tensor for pair in zip(part.weights, part.biases, strict=True) for tensor in pair]


class _Part:
    """What kernels are compiled for, and what they are told that takes no gradient."""

    def __init__(self, part: GridLayers, *, tint: int = 16, scale: float = 1.0) -> None:
        self.grid, self.tint, self.scale = part.grid, tint, scale
        self.half = halved(part.table, part.half)
        self.gains = gains_on_device(part.grid, part.active_levels, part.table)
        self.outputs, self.hidden = part.weights[1].shape
        # Wide layers take more registers than four warps have.
        self.warps = {"num_warps": 4 if max(self.hidden, tint) <= 32 else 8, "num_stages": 1}
        self.head = {"OUTPUTS": self.outputs, "ROOM": room(self.outputs)}
        self.body = {
            "LEVELS": part.grid.levels,
            "FEATURES": part.grid.features,
            "INPUTS": room(part.grid.encoded),
            "HIDDEN": self.hidden,
            "WIDE": room(self.hidden),
        }

    def forward(
        self, points: Tensor, footprints: Any, rows: Any, layers: Any, keep: bool, color: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Outputs, or density, features and color; and encoded features as planes (scratch where not kept)."""
        count, grid = len(points), self.grid
        many = programs(triton.cdiv(count, BLOCK), points.device)
        planes = points.new_empty(grid.levels, count if keep else many * BLOCK, grid.features, dtype=STORED)
        out = points.new_empty(count) if color else points.new_empty(count, self.outputs)
        features = points.new_empty(count, self.outputs, dtype=STORED) if color and keep else None
        colors = points.new_empty(count, 3) if color else None
        if count:
            forward[(many,)](
                points, footprints, self.gains, *facts(grid, points.device), packed(self.half),
                packed(planes.view(-1, grid.features)), planes, *layers[:4], rows, *(layers[4:] or (None,) * 6),
                out, features, colors, count, _samples(count, rows), self.scale, **self.body, **self.head,
                TINT=self.tint, SPREAD=footprints is not None, GAINS=self.gains is not None, ROWS=rows is not None,
                COLOR=color, KEEP=keep, BLOCK=BLOCK, **self.warps,
            )  # fmt: skip
        return out, features, colors, planes

    def grid_backward(
        self, points: Tensor, footprints: Any, rows: Any, layers: Any, planes: Tensor, to_out: Tensor, needs: Any
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor]]:
        """Gradients of points and table, where they are needed, of rows, and of the grid's layers."""
        count, sizes = len(points), [layer.numel() for layer in layers]
        many = programs(triton.cdiv(count, BACKWARD_BLOCK), points.device)
        to_planes, partial = torch.empty_like(planes, dtype=torch.float32), points.new_zeros(many, sum(sizes))
        to_rows = None if rows is None else points.new_empty(count, self.hidden)
        if count:
            grid_backward[(many,)](
                planes, *layers[:3], rows, to_out, to_planes, to_rows, partial, count, _samples(count, rows),
                sum(sizes), **self.body, **self.head, ROWS=rows is not None, BLOCK=BACKWARD_BLOCK, **self.warps,
            )  # fmt: skip
        to_layers = _split(partial, layers)
        place = points, footprints, self.gains
        to_points = slopes(*place, self.half, to_planes, self.grid) if needs[0] else None
        to_table = scatter(*place, to_planes, self.grid) if needs[1] else None
        return to_points, to_table, _of_rays(to_rows, rows), to_layers

    def color_backward(
        self, features: Tensor, rows: Tensor, layers: Any, density: Any, to_density: Any, color: Any, to_color: Any,
        fade: Any,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:  # fmt: skip
        """Gradients of features, of rows, and of the color network's layers."""
        c1, d1, c2, d2, c3, d3 = layers
        given = (c1, c2, d2, c3, d3)
        count, total = len(density), sum(layer.numel() for layer in given)
        many = programs(triton.cdiv(count, BACKWARD_BLOCK), density.device)
        to_features, partial = density.new_empty(count, self.outputs), density.new_zeros(many, total)
        to_rows = density.new_empty(count, self.tint)
        if count:
            color_backward[(many,)](
                features, rows, c1, d1, c2, d2, c3, density, to_density, color, to_color, fade, to_features, to_rows,
                partial, count, _samples(count, rows), total, **self.head, TINT=self.tint, FADE=fade is not None,
                BLOCK=BACKWARD_BLOCK, **self.warps,
            )  # fmt: skip
        own = _of_rays(to_rows, rows)
        to_c1, *rest = _split(partial, given)
        return to_features, own, [to_c1, own.sum(0), *rest]


class _GridNetwork(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, part: _Part, points: Tensor, footprints: Any, rows: Any, table: Tensor, *layers: Tensor
    ) -> Tensor:
        points, rows = points.contiguous(), None if rows is None else rows.contiguous()
        out, _, _, planes = part.forward(points, footprints, rows, layers, any(ctx.needs_input_grad), color=False)
        ctx.save_for_backward(points, footprints, rows, planes, *layers)
        ctx.part = part
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_out: Tensor) -> tuple[Tensor | None, ...]:
        points, footprints, rows, planes, *layers = ctx.saved_tensors
        needs = ctx.needs_input_grad[1], ctx.needs_input_grad[4]
        to_points, to_table, to_rows, to_layers = ctx.part.grid_backward(
            points, footprints, rows, layers, planes, to_out.contiguous(), needs
        )
        return None, to_points, None, to_rows, to_table, *to_layers


class _Radiance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, part: _Part, points: Tensor, footprints: Any, rows: Tensor, fade: Any, table: Tensor, *layers: Tensor
    ) -> tuple[Tensor, Tensor]:
        points, rows = points.contiguous(), rows.contiguous()
        keep = any(ctx.needs_input_grad)
        density, features, color, planes = part.forward(points, footprints, rows, layers, keep, color=True)
        assert color is not None
        ctx.save_for_backward(points, footprints, rows, fade, planes, density, features, color, *layers)
        ctx.part = part
        return density, color

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_density: Tensor, to_color: Tensor) -> tuple[Tensor | None, ...]:
        points, footprints, rows, fade, planes, density, features, color, *layers = ctx.saved_tensors
        given = density, to_density.contiguous(), color, to_color.contiguous(), fade
        to_features, to_rows, to_color_layers = ctx.part.color_backward(features, rows, layers[4:], *given)
        needs = ctx.needs_input_grad[1], ctx.needs_input_grad[5]
        to_points, to_table, _, to_layers = ctx.part.grid_backward(
            points, footprints, None, layers[:4], planes, to_features, needs
        )
        return None, to_points, None, to_rows, None, to_table, *to_layers, *to_color_layers


def _split(partial: Tensor, layers: Any) -> list[Tensor]:
    """The gradients of layers out of the rows that programs wrote."""
    parts = partial.sum(0).split([layer.numel() for layer in layers])
    return [part.view(layer.shape) for part, layer in zip(parts, layers, strict=True)]


def _of_rays(to_rows: Any, rows: Any) -> Any:
    """The gradients of rays' rows out of those of their samples."""
    return None if to_rows is None else to_rows.view(len(rows), _samples(len(to_rows), rows), to_rows.shape[1]).sum(1)


def _samples(count: int, rows: Any) -> int:
    """Samples of a ray."""
    return 1 if rows is None else count // max(1, len(rows))
