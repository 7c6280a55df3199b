"""A coarse occupancy grid of a trained field; rendering skips its empty cells."""

import json
from pathlib import Path

import msgspec
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn

from blocknerf.errors import CheckpointError
from blocknerf.json_file import Number, PositiveCount, Vec3
from blocknerf.tensor_file import TensorFile
from blocknerf.values import first_line

REMEDY = "restore the file, or move it away: the block renders without it, only more slowly"
"""The grid is optional; the weights do not depend on it."""
FILE = TensorFile(format="blocknerf.occupancy/3", what="occupancy grid", remedy=REMEDY)


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    resolution: PositiveCount
    origin: Vec3
    half_extent: Number


class OccupancyGrid(nn.Module):
    """Occupied cells of the contracted cube of a block."""

    binaries: Tensor

    def __init__(self, cells: Bool[Tensor, "x y z"], origin: tuple[float, float, float], half_extent: float) -> None:
        super().__init__()
        self.origin, self.half_extent = origin, half_extent
        self.register_buffer("binaries", cells, persistent=False)

    @property
    def occupied_fraction(self) -> float:
        """Fraction of occupied cells."""
        return float(self.binaries.float().mean())


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
