"""A hash grid with a small network on top: the form of density, proposal and visibility alike."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.precision import STORED
from blocknerf.kernels.radiance import GridLayers, grid_network

TABLE_RANGE = 1e-4
"""Hash tables start uniform within this range (instant-ngp)."""


class Network(nn.Module):
    """A ReLU network with linear output, whose first layer can take a term shared by a ray's samples."""

    def __init__(self, widths: list[int], row_inputs: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.row = nn.Linear(row_inputs, widths[1], bias=False) if row_inputs else None

    def forward(
        self, inputs: Float[Tensor, "points inputs"], rows: Float[Tensor, "rays rows"] | None = None
    ) -> Float[Tensor, "points outputs"]:
        """Outputs for points; `rows` holds the inputs of each ray, for points that are rays times samples."""
        row_bias = None if self.row is None or rows is None else self.row(rows)
        return mlp(inputs, *self.parts, row_bias)

    @property
    def parts(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The weights and the biases, layer by layer."""
        layers = [cast(nn.Linear, layer) for layer in self.layers]
        return tuple(layer.weight for layer in layers), tuple(layer.bias for layer in layers)


class GridNetwork(nn.Module):
    """A function of position (and of the ray): hash-grid features through a small network."""

    def __init__(self, grid: GridSpec, widths: list[int], row_inputs: int = 0) -> None:
        super().__init__()
        self.grid = grid
        self.active_levels: float | Tensor | None = None
        """How many levels of the grid are on, the last one partly; None for all (`hash_grid.level_gains`)."""
        self.shadow: Tensor | None = None
        """A copy of the table for kernels on a GPU; who moves the table keeps it true, or sets it to None."""
        self.table = nn.Parameter(torch.empty(grid.entries, grid.features).uniform_(-TABLE_RANGE, TABLE_RANGE))
        self.network = Network([grid.levels * grid.features, *widths], row_inputs)

    def forward(
        self,
        points: Float[Tensor, "points 3"],
        footprints: Float[Tensor, "points"] | None = None,
        rows: Float[Tensor, "rays rows"] | None = None,
    ) -> Float[Tensor, "points outputs"]:
        """Outputs at points of the unit cube; footprints are cone radii in the cube's units."""
        row_bias = None if self.network.row is None or rows is None else self.network.row(rows)
        return grid_network(self.layers, points, footprints, row_bias)

    @property
    def layers(self) -> GridLayers:
        """Table and layers as they are."""
        weights, biases = self.network.parts
        if self.shadow is None and self.table.is_cuda and not self.table.requires_grad:
            self.shadow = self.table.to(STORED)
        return GridLayers(
            grid=self.grid,
            table=self.table,
            weights=weights,
            biases=biases,
            active_levels=self.active_levels,
            half=self.shadow,
        )
