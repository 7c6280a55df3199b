"""A coarse grid of where a trained field is empty, extracted once so that rendering can skip it."""

import json
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from blocknerf.errors import CheckpointError
from blocknerf.fields.block_field import BlockField
from blocknerf.files import atomic_path
from blocknerf.geometry import uncontract
from blocknerf.kernels.contraction import to_unit_cube

FORMAT = "blocknerf.occupancy/1"
RESOLUTION = 128
PROBES = 4
"""Random points looked at in each cell."""
EMPTY = 0.002
"""A cell is empty when a ray crossing it would lose less than this share of its light."""
CHUNK = 1 << 18


class OccupancyGrid(nn.Module):
    """Occupied cells of the contracted cube around a block."""

    cells: Tensor
    origin: Tensor

    def __init__(self, cells: Bool[Tensor, "x y z"], origin: tuple[float, float, float], half_extent: float) -> None:
        super().__init__()
        self.place, self.half_extent = origin, half_extent
        self.register_buffer("cells", cells)
        self.register_buffer("origin", torch.tensor(origin))

    def occupied(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether each point, in world units, lies in a cell that may have density."""
        resolution = self.cells.shape[0]
        flat = points.reshape(-1, 3)
        cube, _ = to_unit_cube(flat, flat.new_zeros(len(flat)), self.place, self.half_extent)
        x, y, z = (cube * resolution).int().clamp_(0, resolution - 1).unbind(-1)
        return self.cells.view(-1)[(x * resolution + y) * resolution + z].view(points.shape[:-1])

    @property
    def share(self) -> float:
        """Occupied share of the cells."""
        return float(self.cells.float().mean())


@torch.no_grad()
def extract_occupancy(field: BlockField, resolution: int = RESOLUTION, seed: int = 0) -> OccupancyGrid:
    """Look at random points of every cell of the contracted cube, and widen what is found by a cell."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.zeros(resolution**3, dtype=torch.bool)
    for start in range(0, len(cells), CHUNK):
        numbers = torch.arange(start, min(start + CHUNK, len(cells)))
        corners = torch.stack([numbers // resolution**2, numbers // resolution % resolution, numbers % resolution], -1)
        for _ in range(PROBES):
            cube = (corners + torch.rand(len(corners), 3, generator=generator)) / resolution
            cells[start : start + len(numbers)] |= _blocks_light(field, cube, resolution)
    grid = cells.view(1, 1, resolution, resolution, resolution).float()
    widened = torch.nn.functional.max_pool3d(grid, 3, stride=1, padding=1)[0, 0] > 0.5
    return OccupancyGrid(widened, field.spec.origin, field.spec.half_extent)


def _blocks_light(field: BlockField, cube: Float[Tensor, "points 3"], resolution: int) -> Bool[Tensor, "points"]:
    normalized = uncontract((cube - 0.5) * 4.0)
    points = normalized * field.spec.half_extent + field.origin
    size = normalized.abs().amax(-1).clamp_min(1.0)
    # Along a ray that leaves the block, contraction shrinks lengths by 1 / n^2.
    crossing = 4.0 * field.spec.half_extent / resolution * size.square()
    still = points.new_zeros(len(points))
    density, _ = field.density(points, still)
    for proposal in field.proposal_densities:
        density = torch.maximum(density, proposal(points, still))
    return density * crossing > EMPTY


def save_occupancy(grid: OccupancyGrid, path: Path) -> None:
    """Write a grid atomically, eight cells a byte."""
    flat = grid.cells.reshape(-1, 8).to(torch.uint8)
    packed = (flat << torch.arange(8, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)
    facts = {"resolution": grid.cells.shape[0], "origin": list(grid.place), "half_extent": grid.half_extent}
    with atomic_path(path) as part:
        save_file({"cells": packed}, part, metadata={"format": FORMAT, "grid": json.dumps(facts)})


def load_occupancy(path: Path) -> OccupancyGrid:
    """Read a grid.

    Raises:
        CheckpointError: The file is missing, corrupt, or of another format.
    """
    try:
        with safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
            packed = content.get_tensor("cells")
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format {metadata.get('format')!r} is not {FORMAT!r}; train the block again")
        facts = json.loads(metadata["grid"])
        side = int(facts["resolution"])
        cells = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        return OccupancyGrid(cells.bool().view(side, side, side), tuple(facts["origin"]), facts["half_extent"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a readable occupancy grid ({reason}); train the block again") from None
