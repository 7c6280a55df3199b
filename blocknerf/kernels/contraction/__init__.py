"""Points of the world, contracted into the unit cube that grids live in."""

from blocknerf.kernels.contraction.cube import to_unit_cube

__all__ = ["to_unit_cube"]
