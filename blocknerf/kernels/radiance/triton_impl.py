"""Grid features through small networks in Triton for a GPU: one kernel forward, three backward.

Backward, one kernel runs the networks, then the hash grid's own scatter what reaches the features to the table, and
where poses are learned to the points.
"""

from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.hash_grid import level_weights_on_device
from blocknerf.kernels.hash_grid.triton_cells import facts, packed
from blocknerf.kernels.hash_grid.triton_impl import halved, scatter, slopes
from blocknerf.kernels.precision import MATMUL_DTYPE, STORAGE_DTYPE
from blocknerf.kernels.radiance.backward import color_backward, grid_backward
from blocknerf.kernels.radiance.forward import forward
from blocknerf.kernels.radiance.params import ColorParams, HashGridParams
from blocknerf.kernels.triton_ops import capability, programs, resident, room

BLOCK, GRID_BLOCK, COLOR_BLOCK = 128, 64, 32
"""Samples of a tile: forward, back through a grid's network, and back through the color network. The more is held in
registers, the fewer."""
MOST_REGISTERS, GRID_REGISTERS = 255, 168
"""A thread's at most, backward, and through the grid's network on 9.0 and newer, whose matrix units read weights from
shared memory; `tests/kernels/compiled_kernels.py` holds machine code to them."""
FORWARD_PROGRAMS = 16
"""A multiprocessor: forward, a program has little to set up and nothing to sum. Backward there are as many as it holds
at once: of more, the last would be few and alone."""


def grid_network(
    part: HashGridParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"] | None,
) -> Float[Tensor, "points outputs"]:
    """What `layered.grid_network` gives, in mixed precision."""
    return _GridNetwork.apply(_Part(part), points, footprints, row_bias, part.table, *_layers(part))


def radiance(
    field: HashGridParams,
    color: ColorParams,
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"] | None,
    row_bias: Float[Tensor, "rays hidden"],
    half_extent: float,
    fade: Float[Tensor, "points"] | None,
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points 3"]]:
    """What `layered.radiance` gives, in mixed precision."""
    part = _Part(field, tint=color.weights[0].shape[0], scale=1.0 / half_extent)
    return _Radiance.apply(part, points, footprints, row_bias, fade, field.table, *_layers(field), *_layers(color))


def _layers(part: HashGridParams | ColorParams) -> list[Tensor]:
    """Weight and bias, layer by layer."""
    return [tensor for pair in zip(part.weights, part.biases, strict=True) for tensor in pair]


class _Part:
    """What kernels are compiled for, and what they are told that takes no gradient."""

    def __init__(self, part: HashGridParams, *, tint: int = 16, scale: float = 1.0) -> None:
        self.grid, self.tint, self.scale = part.grid, tint, scale
        self.half = halved(part.table, part.half)
        self.gains = level_weights_on_device(part.grid, part.active_levels, part.table)
        self.outputs, self.hidden = part.weights[1].shape
        # Wide layers take more registers than few warps have, and what is compiled for 8.0 does too.
        version, wide = capability(part.table.device), max(self.hidden, tint) > 32
        few = 2 if version >= (8, 9) else 4
        self.shape = {"num_warps": 8 if wide else 4, "num_stages": 1}
        self.grid_shape = {"num_warps": 8 if wide else 4 if self.hidden > 16 else 2, "num_stages": 1}
        self.color_shape = {"num_warps": 8 if wide else few, "num_stages": 1}
        registers = GRID_REGISTERS if version >= (9, 0) and self.grid_shape["num_warps"] > 2 else MOST_REGISTERS
        self.grid_programs = resident(self.grid_shape["num_warps"], registers)
        self.color_programs = resident(self.color_shape["num_warps"], MOST_REGISTERS)
        self.head = {"OUTPUTS": self.outputs, "ROOM": room(self.outputs)}
        self.body = {
            "LEVELS": part.grid.num_levels,
            "FEATURES": part.grid.features_per_level,
            "INPUTS": room(part.grid.output_dim),
            "HIDDEN": self.hidden,
            "WIDE": room(self.hidden),
        }

    def forward(
        self, points: Tensor, footprints: Any, rows: Any, layers: Any, keep: bool, color: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """Outputs, or density, features and color; and encoded features as planes (scratch where not kept)."""
        count, grid = len(points), self.grid
        many = programs(triton.cdiv(count, BLOCK), points.device, FORWARD_PROGRAMS)
        planes = points.new_empty(
            grid.num_levels, count if keep else many * BLOCK, grid.features_per_level, dtype=STORAGE_DTYPE
        )
        out = points.new_empty(count) if color else points.new_empty(count, self.outputs)
        features = points.new_empty(count, self.outputs, dtype=STORAGE_DTYPE) if color and keep else None
        colors = points.new_empty(count, 3) if color else None
        if count:
            forward[(many,)](
                points, footprints, self.gains, *facts(grid, points.device), packed(self.half),
                packed(planes.view(-1, grid.features_per_level)), planes, *layers[:4], rows, *(layers[4:] or (None,) * 6),
                out, features, colors, count, _samples(count, rows), self.scale, **self.body, **self.head,
                TINT=self.tint, SPREAD=footprints is not None, GAINS=self.gains is not None, ROWS=rows is not None,
                COLOR=color, KEEP=keep, BLOCK=BLOCK, **self.shape,
            )  # fmt: skip
        return out, features, colors, planes

    def grid_backward(
        self, points: Tensor, footprints: Any, rows: Any, layers: Any, planes: Tensor, to_out: Any, needs: Any,
        color: Any = None, fade: Any = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor]]:  # fmt: skip
        """Gradients of points and table, where they are needed, of rows, and of the grid's layers.

        Instead of the gradients of outputs, `color` gives what `color_backward` left: features, first weights,
        gradients behind them, density and the gradient of that. The first weights' gradients then come last.
        """
        count, behind = len(points), (None,) * 5 if color is None else color
        given = [*layers, *([] if color is None else [color[1]])]
        total = sum(layer.numel() for layer in given)
        many = programs(triton.cdiv(count, GRID_BLOCK), points.device, self.grid_programs)
        to_planes, partial = torch.empty_like(planes, dtype=torch.float32), points.new_zeros(many, total)
        samples, pooled = _samples(count, rows), _pooled(count, rows, GRID_BLOCK)
        to_rows = None if rows is None else _room_for_rows(rows, count, pooled)
        if count:
            grid_backward[(many,)](
                planes, *layers[:3], rows, to_out, *behind, fade, to_planes, to_rows, partial, count, samples, total,
                **self.body, **self.head, TINT=self.tint, ROWS=rows is not None, COLOR=color is not None,
                FADE=fade is not None, POOLED=pooled, BLOCK=GRID_BLOCK, **self.grid_shape,
            )  # fmt: skip
        to_layers = _split(partial, given)
        place = points, footprints, self.gains
        to_points = slopes(*place, self.half, to_planes, self.grid) if needs[0] else None
        to_table = scatter(*place, to_planes, self.grid) if needs[1] else None
        return to_points, to_table, _of_rays(to_rows, rows), to_layers

    def color_backward(
        self, features: Tensor, rows: Tensor, layers: Any, color: Any, to_color: Any
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Gradients of what the color network's first layer sums up, of rows, and of all but the first weights."""
        c1, d1, c2, d2, c3, d3 = layers
        given = (c2, d2, c3, d3)
        count, total = len(color), sum(layer.numel() for layer in given)
        many = programs(triton.cdiv(count, COLOR_BLOCK), color.device, self.color_programs)
        to_tints, partial = color.new_empty(count, self.tint, dtype=MATMUL_DTYPE), color.new_zeros(many, total)
        samples, pooled = _samples(count, rows), _pooled(count, rows, COLOR_BLOCK)
        to_rows = _room_for_rows(rows, count, pooled)
        if count:
            color_backward[(many,)](
                features, rows, c1, d1, c2, d2, c3, color, to_color, to_tints, to_rows, partial, count, samples, total,
                **self.head, TINT=self.tint, POOLED=pooled, BLOCK=COLOR_BLOCK, **self.color_shape,
            )  # fmt: skip
        own = _of_rays(to_rows, rows)
        return to_tints, own, [own.sum(0), *_split(partial, given)]


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
        to_tints, to_rows, to_color_layers = ctx.part.color_backward(
            features, rows, layers[4:], color, to_color.contiguous()
        )
        needs = ctx.needs_input_grad[1], ctx.needs_input_grad[5]
        behind = features, layers[4], to_tints, density, to_density.contiguous()
        to_points, to_table, _, (*to_layers, to_first) = ctx.part.grid_backward(
            points, footprints, None, layers[:4], planes, None, needs, behind, fade
        )
        return None, to_points, None, to_rows, None, to_table, *to_layers, to_first, *to_color_layers


def _split(partial: Tensor, layers: Any) -> list[Tensor]:
    """The gradients of layers out of the rows that programs wrote."""
    parts = partial.sum(0).split([layer.numel() for layer in layers])
    return [part.view(layer.shape) for part, layer in zip(parts, layers, strict=True)]


def _pooled(count: int, rows: Any, block: int) -> bool:
    """Whether the gradients of rays' rows are summed where they are found: a tile then holds parts of 16 rays at most,
    and a ray lies in two tiles at most."""
    return rows is not None and _samples(count, rows) <= block <= 14 * _samples(count, rows)


def _room_for_rows(rows: Tensor, count: int, pooled: bool) -> Tensor:
    """Memory for the gradients of rays' rows, or of the same of each sample."""
    return torch.zeros_like(rows) if pooled else rows.new_empty(count, rows.shape[1])


def _of_rays(to_rows: Any, rows: Any) -> Any:
    """The gradients of rays' rows, out of those of their samples where they are not summed yet."""
    if to_rows is None or to_rows.shape == rows.shape:
        return to_rows
    return to_rows.view(len(rows), _samples(len(to_rows), rows), to_rows.shape[1]).sum(1)


def _samples(count: int, rows: Any) -> int:
    """Samples of a ray."""
    return 1 if rows is None else count // max(1, len(rows))
