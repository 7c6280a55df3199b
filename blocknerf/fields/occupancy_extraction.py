"""Finding where a trained field is empty, by looking into every cell."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.fields.block_field import BlockField
from blocknerf.fields.occupancy import OccupancyGrid
from blocknerf.geometry import uncontract

RESOLUTION = 128
POINTS_PER_SIDE = 3
"""Points looked at along each side of a cell, its faces included: half a cell apart is what the proposals can tell."""
MAX_EMPTY_ALPHA = 0.002
"""A cell is empty when a ray crossing it would lose less than this share of its light.

Samples are placed by what proposals lose along the whole ray, so that less than what can be seen must count: 0.01 here
moved samples of a street by enough to bring the picture down to 40 dB, 0.002 keeps it above 49.
"""
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 21}
"""Cells looked into at once; a GPU takes all of them, since Python would keep it waiting for the next."""


@torch.no_grad()
def extract_occupancy(field: BlockField, resolution: int = RESOLUTION) -> OccupancyGrid:
    """Look at a lattice of points in every cell of the contracted cube.

    They are points without a footprint, the sharpest that any camera could see; their footprints in the cameras that
    trained a street are so much smaller than a cell that the same cells come out empty with them.
    """
    device = field.origin.device
    cells = torch.zeros(resolution**3, dtype=torch.bool, device=device)
    steps = torch.linspace(0.0, 1.0, POINTS_PER_SIDE, device=device)
    lattice = torch.cartesian_prod(steps, steps, steps)
    # From the middle out: most cells are not empty, and need no second look.
    lattice = lattice[(lattice - 0.5).norm(dim=-1).argsort()]
    chunk = CHUNK.get(device.type, CHUNK["cpu"])
    for start in range(0, len(cells), chunk):
        left = torch.arange(start, min(start + chunk, len(cells)), device=device)
        corners = torch.stack([left // resolution**2, left // resolution % resolution, left % resolution], -1)
        for offset in lattice:
            full = _is_occupied(field, (corners + offset) / resolution, resolution)
            cells[left[full]] = True
            left, corners = left[~full], corners[~full]
    return OccupancyGrid(cells.view(resolution, resolution, resolution), field.spec.origin, field.spec.half_extent)


def _is_occupied(field: BlockField, cube: Float[Tensor, "points 3"], resolution: int) -> Bool[Tensor, "points"]:
    """Whether the field or its proposals have density at points of the unit cube."""
    normalized = uncontract((cube - 0.5) * 4.0)
    points = normalized * field.spec.half_extent + field.origin
    size = normalized.abs().amax(-1).clamp_min(1.0)
    # Along a ray that leaves the block, contraction shrinks lengths by 1 / n^2.
    least = MAX_EMPTY_ALPHA / (4.0 * field.spec.half_extent / resolution * size.square())
    full = torch.zeros_like(least, dtype=torch.bool)
    for density in (*field.proposal_density_fns, lambda *where: field.density(*where)[0]):
        clear = ~full  # the costly one last, and only where it decides
        full[clear] = density(points[clear], points.new_zeros(int(clear.sum()))) > least[clear]
    return full
