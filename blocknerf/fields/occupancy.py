"""A coarse grid of where a trained field is empty, so that rendering can skip it."""

import json
from pathlib import Path

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn

from blocknerf.errors import CheckpointError
from blocknerf.files import parse_json
from blocknerf.tensor_file import TensorFile
from blocknerf.values import first_line

REMEDY = "restore the file, or move it away: the block renders without it, only more slowly"
"""The trained weights need no grid."""
FILE = TensorFile(format="blocknerf.occupancy/3", what="occupancy grid", remedy=REMEDY)


class OccupancyGrid(nn.Module):
    """Occupied cells of the contracted cube around a block."""

    binaries: Tensor

    def __init__(self, cells: Bool[Tensor, "x y z"], origin: tuple[float, float, float], half_extent: float) -> None:
        super().__init__()
        self.origin, self.half_extent = origin, half_extent
        self.register_buffer("binaries", cells, persistent=False)

    @property
    def occupied_fraction(self) -> float:
        """Occupied share of the cells."""
        return float(self.binaries.float().mean())


def save_occupancy(grid: OccupancyGrid, path: Path) -> None:
    """Write a grid atomically, eight cells a byte."""
    flat = grid.binaries.cpu().reshape(-1, 8).to(torch.uint8)
    packed = (flat << _bits()).sum(-1, dtype=torch.uint8)
    facts = {"resolution": grid.binaries.shape[0], "origin": list(grid.origin), "half_extent": grid.half_extent}
    FILE.write(path, {"binaries": packed}, {"grid": json.dumps(facts)})


def load_occupancy(path: Path, device: torch.device | str = "cpu") -> OccupancyGrid:
    """Read a grid onto a device.

    Raises:
        CheckpointError: The file is missing, corrupt, or of another format.
    """
    try:
        metadata, tensors = FILE.read(path)
        facts = parse_json(metadata["grid"])
        side = int(facts["resolution"])
        cells = ((tensors["binaries"][:, None] >> _bits()) & 1).bool().view(side, side, side)
        return OccupancyGrid(cells.to(device), tuple(facts["origin"]), facts["half_extent"])
    except (FileNotFoundError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{path}: not a readable occupancy grid ({reason}); {REMEDY}") from None


def _bits() -> UInt8[Tensor, "8"]:
    """The places of a byte's cells, lowest first."""
    return torch.arange(8, dtype=torch.uint8, device="cpu")
