"""A hash grid followed by a small MLP, used for density, proposals and visibility."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.kernels.devices import STORAGE_DTYPE
from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.mlp import mlp
from blocknerf.kernels.radiance import HashGridParams, grid_network

HASH_INIT_SCALE = 1e-4
"""Hash tables are initialized uniformly in plus or minus this value (instant-ngp)."""


class MLP(nn.Module):
    """A ReLU network with linear output and an optional per-ray bias in its first layer."""

    def __init__(self, widths: list[int], num_ray_inputs: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.ray_layer = nn.Linear(num_ray_inputs, widths[1], bias=False) if num_ray_inputs else None

    def forward(
        self, inputs: Float[Tensor, "points features"], ray_inputs: Float[Tensor, "rays inputs"] | None = None
    ) -> Float[Tensor, "points outputs"]:
        """Return outputs at points; with `ray_inputs`, the points are samples along these rays, ray by ray."""
        per_ray_bias = None if self.ray_layer is None or ray_inputs is None else self.ray_layer(ray_inputs)
        return mlp(inputs, *self.weights_and_biases, per_ray_bias)

    @property
    def weights_and_biases(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Weights and biases, layer by layer."""
        layers = [cast(nn.Linear, layer) for layer in self.layers]
        return tuple(layer.weight for layer in layers), tuple(layer.bias for layer in layers)


class HashGridMLP(nn.Module):
    """A function of position and, optionally, of the ray: hash-grid features followed by a small MLP."""

    def __init__(self, grid: GridSpec, widths: list[int], num_ray_inputs: int = 0) -> None:
        super().__init__()
        self.grid = grid
        self.active_levels: float | Tensor | None = None
        """Number of active grid levels, the last one partly; None for all (`hash_grid.level_weights`)."""
        self.half_table: Tensor | None = None
        """A half-precision copy of the table for GPU kernels; must be updated or set to None when the table changes."""
        self.table = nn.Parameter(
            torch.empty(grid.num_entries, grid.features_per_level).uniform_(-HASH_INIT_SCALE, HASH_INIT_SCALE)
        )
        self.network = MLP([grid.num_levels * grid.features_per_level, *widths], num_ray_inputs)

    def forward(
        self,
        points: Float[Tensor, "points 3"],
        std: Float[Tensor, "points"] | None = None,
        ray_inputs: Float[Tensor, "rays inputs"] | None = None,
    ) -> Float[Tensor, "points outputs"]:
        """Return outputs at points of the unit cube; `std` is the standard deviation of their footprints there."""
        ray_layer = self.network.ray_layer
        per_ray_bias = None if ray_layer is None or ray_inputs is None else ray_layer(ray_inputs)
        return grid_network(self.layers, points, std, per_ray_bias)

    @property
    def layers(self) -> HashGridParams:
        """Table and layers for the kernels."""
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
