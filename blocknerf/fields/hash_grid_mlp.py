"""A hash grid with a small network on top: the form of density, proposal and visibility alike."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.precision import STORAGE_DTYPE
from blocknerf.kernels.radiance import HashGridParams, grid_network

HASH_INIT_SCALE = 1e-4
"""Hash tables start uniform within this range (instant-ngp)."""


class MLP(nn.Module):
    """A ReLU network with linear output, whose first layer can take a term shared by a ray's samples."""

    def __init__(self, widths: list[int], row_inputs: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.ray_layer = nn.Linear(row_inputs, widths[1], bias=False) if row_inputs else None

    def forward(
        self, inputs: Float[Tensor, "points inputs"], rows: Float[Tensor, "rays rows"] | None = None
    ) -> Float[Tensor, "points outputs"]:
        """Outputs for points; `rows` holds the inputs of each ray, for points that are rays times samples."""
        row_bias = None if self.ray_layer is None or rows is None else self.ray_layer(rows)
        return mlp(inputs, *self.weights_and_biases, row_bias)

    @property
    def weights_and_biases(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The weights and the biases, layer by layer."""
        layers = [cast(nn.Linear, layer) for layer in self.layers]
        return tuple(layer.weight for layer in layers), tuple(layer.bias for layer in layers)


class HashGridMLP(nn.Module):
    """A function of position (and of the ray): hash-grid features through a small network."""

    def __init__(self, grid: GridSpec, widths: list[int], row_inputs: int = 0) -> None:
        super().__init__()
        self.grid = grid
        self.active_levels: float | Tensor | None = None
        """How many levels of the grid are on, the last one partly; None for all (`hash_grid.level_gains`)."""
        self.half_table: Tensor | None = None
        """A copy of the table for kernels on a GPU; who moves the table keeps it true, or sets it to None."""
        self.table = nn.Parameter(
            torch.empty(grid.num_entries, grid.features_per_level).uniform_(-HASH_INIT_SCALE, HASH_INIT_SCALE)
        )
        self.network = MLP([grid.num_levels * grid.features_per_level, *widths], row_inputs)

    def forward(
        self,
        points: Float[Tensor, "points 3"],
        footprints: Float[Tensor, "points"] | None = None,
        rows: Float[Tensor, "rays rows"] | None = None,
    ) -> Float[Tensor, "points outputs"]:
        """Outputs at points of the unit cube; footprints are cone radii in the cube's units."""
        row_bias = None if self.network.ray_layer is None or rows is None else self.network.ray_layer(rows)
        return grid_network(self.layers, points, footprints, row_bias)

    @property
    def layers(self) -> HashGridParams:
        """Table and layers as they are."""
        weights, biases = self.network.weights_and_biases
        if self.half_table is None and self.table.is_cuda and not self.table.requires_grad:
            self.half_table = self.table.to(STORAGE_DTYPE)
        return HashGridParams(
            grid=self.grid,
            table=self.table,
            weights=weights,
            biases=biases,
            active_levels=self.active_levels,
            half=self.half_table,
        )
