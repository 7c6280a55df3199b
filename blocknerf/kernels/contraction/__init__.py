"""Contraction of world points into the unit cube of the hash grids."""

from blocknerf.kernels.contraction.api import contract_to_unit_cube

__all__ = ["contract_to_unit_cube"]
