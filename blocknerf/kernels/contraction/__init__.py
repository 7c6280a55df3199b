"""Points of the world, contracted into the unit cube that grids live in."""

from blocknerf.kernels.contraction.api import contract_to_unit_cube

__all__ = ["contract_to_unit_cube"]
