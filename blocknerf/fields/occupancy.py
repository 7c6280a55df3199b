"""Occupancy grid of a trained field: its extraction and its file. Rendering skips its empty cells."""

import json
from pathlib import Path

import msgspec
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from blocknerf.errors import CheckpointError
from blocknerf.fields.block_field import BlockField, OccupancyGrid
from blocknerf.geometry import uncontract
from blocknerf.json_file import Number, PositiveCount, Vec3
from blocknerf.tensor_file import TensorFile
from blocknerf.values import first_line

RESOLUTION = 128
"""Cells along each side of the contracted cube: half as many as the finest level of the proposals."""
POINTS_PER_SIDE = 3
"""Points along each side of a cell, faces included: half a cell apart is the resolution of the proposals."""
MAX_EMPTY_ALPHA = 0.002
"""A cell is empty if the alpha of a ray that crosses it is below this value.

The samples depend on the proposals along the whole ray, so the threshold must be below what is visible: with 0.01, the
samples in a street moved enough to lower the rendering to 40 dB; 0.002 keeps it above 49 dB.
"""
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 21}
"""Cells per chunk; a GPU takes all cells in one chunk, since it would otherwise wait for Python."""


REMEDY = "restore the file, or move it away: the block renders without it, only more slowly"
"""The grid is optional; the weights do not depend on it."""
FILE = TensorFile(format="blocknerf.occupancy/3", what="occupancy grid", remedy=REMEDY)


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    resolution: PositiveCount
    origin: Vec3
    half_extent: Number


@torch.no_grad()
def extract_occupancy(field: BlockField, resolution: int = RESOLUTION) -> OccupancyGrid:
    """Return the occupancy grid of a field, from a lattice of points in every cell of the contracted cube.

    The points have no footprint, which is the sharpest that a camera could resolve. The footprints of the cameras that
    trained a street are so much smaller than a cell that the result is the same with them.
    """
    device = field.origin.device
    cells = torch.zeros(resolution**3, dtype=torch.bool, device=device)
    steps = torch.linspace(0.0, 1.0, POINTS_PER_SIDE, device=device)
    lattice = torch.cartesian_prod(steps, steps, steps)
    # Center first: most cells are not empty, and are decided by the first point.
    lattice = lattice[(lattice - 0.5).norm(dim=-1).argsort()]
    chunk = CHUNK.get(device.type, CHUNK["cpu"])
    for start in range(0, len(cells), chunk):
        undecided = torch.arange(start, min(start + chunk, len(cells)), device=device)
        corners = torch.stack(
            [undecided // resolution**2, undecided // resolution % resolution, undecided % resolution], -1
        )
        for offset in lattice:
            occupied = _is_occupied(field, (corners + offset) / resolution, resolution)
            cells[undecided[occupied]] = True
            undecided, corners = undecided[~occupied], corners[~occupied]
    return OccupancyGrid(cells.view(resolution, resolution, resolution), field.spec.origin, field.spec.half_extent)


def _is_occupied(field: BlockField, cube: Float[Tensor, "points 3"], resolution: int) -> Bool[Tensor, "points"]:
    """Return whether the field or its proposals have density at points of the unit cube."""
    normalized = uncontract((cube - 0.5) * 4.0)
    points = normalized * field.spec.half_extent + field.origin
    size = normalized.abs().amax(-1).clamp_min(1.0)
    # Along a ray that leaves the block, contraction shrinks lengths by 1 / n^2.
    min_density = MAX_EMPTY_ALPHA / (4.0 * field.spec.half_extent / resolution * size.square())
    occupied = torch.zeros_like(min_density, dtype=torch.bool)
    for density in (*field.proposal_density_fns, lambda *inputs: field.density(*inputs)[0]):
        rest = ~occupied  # the main field comes last, and only where the proposals are empty
        occupied[rest] = density(points[rest], points.new_zeros(int(rest.sum()))) > min_density[rest]
    return occupied


def save_occupancy(grid: OccupancyGrid, path: Path) -> None:
    """Write a grid atomically, eight cells per byte."""
    flat = grid.binaries.cpu().reshape(-1, 8).to(torch.uint8)
    packed = (flat << _bit_shifts()).sum(-1, dtype=torch.uint8)
    header = {"resolution": grid.binaries.shape[0], "origin": grid.origin, "half_extent": grid.half_extent}
    FILE.write(path, {"binaries": packed}, {"grid": json.dumps(header)})


def load_occupancy(path: Path, device: torch.device | str = "cpu") -> OccupancyGrid:
    """Load a grid onto a device.

    Raises:
        CheckpointError: the file is missing, corrupt, or of another format.
    """
    try:
        metadata, tensors = FILE.read(path)
        header = msgspec.json.decode(metadata["grid"], type=_Header)
        side = header.resolution
        cells = ((tensors["binaries"][:, None] >> _bit_shifts()) & 1).bool().view(side, side, side)
        return OccupancyGrid(cells.to(device), header.origin, header.half_extent)
    except (FileNotFoundError, KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{path}: not a readable occupancy grid ({reason}); {REMEDY}") from None


def _bit_shifts() -> UInt8[Tensor, "8"]:
    """Return the bit positions of the cells in a byte, lowest first."""
    return torch.arange(8, dtype=torch.uint8, device="cpu")
