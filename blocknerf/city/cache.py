"""Blocks loaded for rendering: a field and its alignment with the world, in an LRU cache within a memory budget."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from blocknerf.cameras import Cameras
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import PoseCorrections, read_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import load_field, read_header
from blocknerf.fields.hash_grid_mlp import HashGridMLP
from blocknerf.fields.occupancy import REMEDY, load_occupancy
from blocknerf.kernels.devices import STORAGE_DTYPE
from blocknerf.partitioning.frame_assignment import read_assignment
from blocknerf.rendering.protocol import Field

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAlignment:
    """Transform between the world and the frame of one block."""

    pose_corrections: PoseCorrections
    """Corrections that the block learned."""
    trajectory: PoseCorrections | None = None
    """Averaged corrections of all blocks; None before `blocknerf align`."""
    block_from_world: PivotTransform | None = None
    """From the world of the averaged trajectory to the block's frame; None before `blocknerf align`."""

    def to_block_frame(self, cameras: Cameras, pose_segment: PoseSegment | None = None) -> Cameras:
        """Return cameras in the block's frame.

        With a pose segment, the cameras are uncorrected cameras of the capture: they get the block's own correction of
        that segment or, if it has none, the averaged one. Without, they are any cameras in the world of the averaged
        trajectory.
        """
        if pose_segment is not None:
            correction = self.pose_corrections.of(pose_segment)
            if correction is not None:
                return correction.apply(cameras)
            average = None if self.trajectory is None else self.trajectory.of(pose_segment)
            cameras = cameras if average is None else average.apply(cameras)
        return cameras if self.block_from_world is None else self.block_from_world.apply(cameras)


def load_alignments(run: RunFolder) -> Callable[[str], BlockAlignment | None]:
    """Return a function from a block's name to its alignment; None for a block without pose refinement.

    An updated block kept the given poses of its own images; it sees the run's images at their averaged poses.

    Raises:
        CaptureError: a file of poses is broken.
        RunError: a frames.json is broken.
    """
    average = read_pose_average(run.poses) if run.poses.exists() else None

    def read(name: str) -> BlockAlignment | None:
        path = run.pose_corrections(name)
        if not path.exists():
            if average is None or not _is_updated(run, name):
                return None
            return BlockAlignment(pose_corrections=PoseCorrections(), trajectory=average.trajectory)
        corrections = read_corrections(path)
        if average is None:
            return BlockAlignment(pose_corrections=corrections)
        return BlockAlignment(
            pose_corrections=corrections,
            trajectory=average.trajectory,
            block_from_world=average.block_alignments.get(name),
        )

    return read


def _is_updated(run: RunFolder, name: str) -> bool:
    """Return whether the block trains on its own images; false if its frames.json is missing."""
    frames = run.frames(name)
    return frames.is_file() and read_assignment(frames).capture is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBlock:
    """A block loaded for rendering."""

    field: Field
    alignment: BlockAlignment | None = None
    """Alignment of the block's frame; None for a block without pose refinement."""

    @property
    def bytes(self) -> int:
        """Memory of parameters and buffers on the field's device; 0 for an analytic field."""
        if not isinstance(self.field, nn.Module):
            return 0
        parameter_bytes = sum(
            tensor.numel() * tensor.element_size() for tensor in [*self.field.parameters(), *self.field.buffers()]
        )
        tables = [module.table for module in self.field.modules() if isinstance(module, HashGridMLP)]
        # The GPU kernels make half-precision copies of the tables on first use.
        half_bytes = sum(table.numel() * STORAGE_DTYPE.itemsize for table in tables if table.device.type != "cpu")
        return parameter_bytes + half_bytes

    def to_block_frame(self, cameras: Cameras, pose_segment: PoseSegment | None = None) -> Cameras:
        """Return cameras in the block's frame (`BlockAlignment.to_block_frame`)."""
        return cameras if self.alignment is None else self.alignment.to_block_frame(cameras, pose_segment)


Loader = Callable[[str], LoadedBlock]
"""Returns the block of a name; raises FileNotFoundError if it is not trained yet."""


class BlockCache:
    """Blocks by name, loaded on first use; the least recently used block is dropped when the budget is full."""

    def __init__(self, load: Loader, budget_bytes: int) -> None:
        self._load = load
        self._blocks: OrderedDict[str, LoadedBlock] = OrderedDict()
        self.budget_bytes = budget_bytes
        self.held_bytes = 0

    def get(self, name: str) -> LoadedBlock:
        """Return the block of a name.

        Raises:
            FileNotFoundError: it is not trained yet.
            RunError: its field alone exceeds the budget, or its file is broken.
        """
        if name not in self._blocks:
            self._insert(name)
        self._blocks.move_to_end(name)
        return self._blocks[name]

    def drop(self, name: str) -> None:
        """Drop a block, so that it is loaded again on the next use."""
        block = self._blocks.pop(name, None)
        if block is not None:
            self.held_bytes -= block.bytes

    def _insert(self, name: str) -> None:
        block = self._load(name)
        size = block.bytes
        if size > self.budget_bytes:
            raise RunError(
                f"block {name}: its field takes {size / MIB:.1f} MiB, more than the block cache of "
                f"{self.budget_bytes / MIB:.1f} MiB; enlarge the cache"
            )
        while self.held_bytes + size > self.budget_bytes:
            _, oldest = self._blocks.popitem(last=False)
            self.held_bytes -= oldest.bytes
        self._blocks[name] = block
        self.held_bytes += size


def block_loader(run: RunFolder, city: City, device: torch.device | str = "cpu", *, sharp: bool = False) -> Loader:
    """Return a loader of a run's trained blocks; it raises RunError for a block of another city.

    With `sharp`, renderings may sample finer than the training images saw a place.
    """
    alignment_of = load_alignments(run)

    def load(name: str) -> LoadedBlock:
        path = run.field(name)
        if not path.exists():
            raise FileNotFoundError(path)
        if read_header(path).city != city.digest:
            raise RunError(
                f"{path}: was trained with other blocks, another preset or other test frames than those of {run.city}; "
                f"restore that {run.city.name}, or partition and train into a new run folder"
            )
        field, grid = load_field(path, device), run.occupancy(name)
        if grid.exists():
            try:
                field.set_occupancy(load_occupancy(grid, device))
            except ValueError as error:
                raise RunError(f"{grid}: {error}; {REMEDY}") from None
        if sharp:
            field.footprint_floor = None
        return LoadedBlock(field=field, alignment=alignment_of(name))

    return load


def live_block_loader(run: RunFolder, city: City, device: torch.device | str = "cpu", *, sharp: bool = False) -> Loader:
    """Return a loader of a run's blocks that loads the preview of a block still in training."""
    finished = block_loader(run, city, device, sharp=sharp)

    def load(name: str) -> LoadedBlock:
        try:
            return finished(name)
        except FileNotFoundError:
            if not run.preview(name).is_file():
                raise
            return LoadedBlock(field=load_field(run.preview(name), device))

    return load
