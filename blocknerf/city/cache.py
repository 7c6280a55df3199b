"""The loaded blocks, within a budget of memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from blocknerf.cameras import Cameras
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.city.block_alignment import BlockAlignment, load_alignments
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import load_field, read_header
from blocknerf.fields.hash_grid_mlp import HashGridMLP
from blocknerf.fields.occupancy import REMEDY, load_occupancy
from blocknerf.kernels.precision import STORAGE_DTYPE
from blocknerf.rendering.protocol import Field

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBlock:
    """What rendering needs of a block."""

    field: Field
    alignment: BlockAlignment | None = None
    """Where the block learned that photographs stand; None where it kept the poses it was given."""

    @property
    def bytes(self) -> int:
        """Memory of parameters and buffers on the field's device; a field in closed form has none."""
        if not isinstance(self.field, nn.Module):
            return 0
        held = sum(each.numel() * each.element_size() for each in [*self.field.parameters(), *self.field.buffers()])
        tables = [module.table for module in self.field.modules() if isinstance(module, HashGridMLP)]
        # Their copies for a GPU's kernels are made when they are first needed.
        copied = sum(table.numel() * STORAGE_DTYPE.itemsize for table in tables if table.device.type != "cpu")
        return held + copied

    def to_block_frame(self, cameras: Cameras, stretch: PoseSegment | None = None) -> Cameras:
        """Cameras as the block sees them: any, or with their stretch those of photographs (`BlockAlignment.to_block_frame`)."""
        return cameras if self.alignment is None else self.alignment.to_block_frame(cameras, stretch)


Loader = Callable[[str], LoadedBlock]
"""Gives the block of that name; raises FileNotFoundError where it is not trained yet."""


class BlockCache:
    """Blocks by name, loaded on first use; the one used longest ago leaves when the budget is full."""

    def __init__(self, load: Loader, budget_bytes: int) -> None:
        self._load = load
        self._blocks: OrderedDict[str, LoadedBlock] = OrderedDict()
        self.budget_bytes = budget_bytes
        self.held_bytes = 0

    def get(self, name: str) -> LoadedBlock:
        """The block of that name.

        Raises:
            FileNotFoundError: it is not trained yet.
            RunError: its field alone exceeds the budget, or its file is broken.
        """
        if name not in self._blocks:
            self._admit(name)
        self._blocks.move_to_end(name)
        return self._blocks[name]

    def drop(self, name: str) -> None:
        """Forget a block, so that it is loaded anew when it is next asked for."""
        block = self._blocks.pop(name, None)
        if block is not None:
            self.held_bytes -= block.bytes

    def _admit(self, name: str) -> None:
        block = self._load(name)
        size = block.bytes
        if size > self.budget_bytes:
            raise RunError(
                f"block {name}: its field takes {size / MIB:.1f} MiB, more than the {self.budget_bytes / MIB:.1f} MiB "
                "that loaded blocks may take; give the renderer a larger cache"
            )
        while self.held_bytes + size > self.budget_bytes:
            _, oldest = self._blocks.popitem(last=False)
            self.held_bytes -= oldest.bytes
        self._blocks[name] = block
        self.held_bytes += size


def block_loader(run: RunFolder, city: City, device: torch.device | str = "cpu") -> Loader:
    """Loads the blocks of a run, refusing those that were trained for another city."""
    refinement_of = load_alignments(run)

    def load(name: str) -> LoadedBlock:
        path = run.field(name)
        if not path.exists():
            raise FileNotFoundError(path)
        if read_header(path).city != city.digest:
            raise RunError(
                f"{path}: was trained with other blocks, another preset or other held-out frames than {run.city} "
                f"says; restore that {run.city.name}, or partition and train into a new run folder"
            )
        field, grid = load_field(path, device), run.occupancy(name)
        if grid.exists():
            try:
                field.set_occupancy(load_occupancy(grid, device))
            except ValueError as error:
                raise RunError(f"{grid}: {error}; {REMEDY}") from None
        return LoadedBlock(field=field, alignment=refinement_of(name))

    return load


def live_block_loader(run: RunFolder, city: City, device: torch.device | str = "cpu") -> Loader:
    """Loads the blocks of a run, those in training as far as they are."""
    finished = block_loader(run, city, device)

    def load(name: str) -> LoadedBlock:
        try:
            return finished(name)
        except FileNotFoundError:
            if not run.preview(name).is_file():
                raise
            return LoadedBlock(field=load_field(run.preview(name), device))

    return load
