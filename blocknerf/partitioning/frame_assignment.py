"""Assign frames to blocks: which frames train a block, and why."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import outlying_frames
from blocknerf.errors import PlacementError, RunError
from blocknerf.json_file import Count, JsonFile, Record
from blocknerf.options import check_whole
from blocknerf.partitioning.aerial_overlap import aerial_overlap
from blocknerf.partitioning.block import Block, is_file_name
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.partitioning.held_out import HeldOut, hold_out
from blocknerf.partitioning.placement import join_names
from blocknerf.partitioning.static_frames import moving_frames
from blocknerf.partitioning.view_overlap import StreetViews
from blocknerf.values import format_value

INSIDE_MARGIN = 0.1
"""A camera up to this fraction of the radius outside counts as inside: what it sees close by is inside."""
MIN_OVERLAP = 0.5
"""A frame of an outside or aerial camera is assigned if the block fills this fraction of its view in range."""
OUTSIDE_MARGIN = 0.5
"""Maximum distance of an outside street camera, a fraction of the radius; the block may be rendered from there."""
MIN_MOTION = 0.01
"""Minimum camera motion between training frames, as a fraction of the radius."""

TRAIN, TEST, UNUSED = range(3)

Reason = Literal["position", "visible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAssignment:
    """The frames of one block, as indices into the capture."""

    block: str
    frames: tuple[int, ...]
    """Training frames, ascending."""
    reasons: tuple[Reason, ...]
    """One for each of `frames`: the camera is inside the block, or enough of the block is visible."""
    test_frames: tuple[int, ...] = ()
    """Frames that would train it but are held out for evaluation."""
    skipped_static: tuple[int, ...] = ()
    """Frames skipped because the camera did not move."""
    capture: str | None = None
    """Capture file of the images next to frames.json; None for the run's capture."""

    def __post_init__(self) -> None:
        if len(self.reasons) != len(self.frames):
            raise RunError(f"assignment of {self.block}: {len(self.reasons)} reasons for {len(self.frames)} frames")


class _FrameRecord(Record, frozen=True, kw_only=True):
    index: Count
    name: str


class _TrainingFrameRecord(_FrameRecord, frozen=True, kw_only=True):
    reason: Reason


class _AssignmentRecord(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="format", tag="blocknerf.frame-assignment/1"
):
    block: str
    capture: str | None = None
    frames: list[_TrainingFrameRecord]
    test_frames: list[_FrameRecord]
    skipped_static: list[_FrameRecord]


_FILE = JsonFile(content=_AssignmentRecord, what="frame assignment", remedy="partition again")


def assign_frames(
    capture: Capture, blocks: Sequence[Block], *, test_every: int = 8, allow_unassigned: bool = False
) -> tuple[FrameAssignment, ...]:
    """Return the frames of every block, in the order of `blocks`.

    Street captures: a frame is assigned to the blocks that its camera is inside of. Frames of outside cameras that
    mostly see the block are added too, best first, up to the number of inside ones. Aerial captures: visibility alone
    decides, since cameras fly outside of what they see. Test frames are held out (`hold_out`).

    Raises:
        PlacementError: a frame is in no block (unless `allow_unassigned`, or its camera is far from all others), or a
            block has no training frames.
    """
    check_test_every(test_every)
    geometry = capture_geometry(capture)
    members = list(_from_air(geometry, blocks) if geometry.is_aerial else _from_street(geometry, blocks))
    if not allow_unassigned:
        _check_unassigned(geometry, members, outlying_frames(capture))
    uses = _uses(len(capture), hold_out(capture, test_every))
    tracks = _Tracks(geometry)
    assignments = [
        _assignment(tracks, block, block_members, uses) for block, block_members in zip(blocks, members, strict=True)
    ]
    _check_empty(assignments)
    return tuple(assignments)


def check_test_every(test_every: int) -> None:
    """Raise if `test_every` is invalid or leaves no training frames.

    Raises:
        PlacementError: every frame would be held out.
        OptionError: it is not a whole number of at least 0.
    """
    check_whole(least=0, test_every=test_every)
    if test_every == 1:
        raise PlacementError("--test-every 1 leaves nothing to train on; give 0 or at least 2")


def write_assignment(assignment: FrameAssignment, capture: Capture, path: Path) -> None:
    """Write `frames.json`; it has names next to the indices, so that it is readable on its own."""

    def records(indices: Sequence[int]) -> list[_FrameRecord]:
        return [_FrameRecord(index=i, name=name) for i, name in zip(indices, capture.names(indices), strict=True)]

    names = capture.names(assignment.frames)
    frames = zip(assignment.frames, names, assignment.reasons, strict=True)
    record = _AssignmentRecord(
        block=assignment.block,
        capture=assignment.capture,
        frames=[_TrainingFrameRecord(index=i, name=name, reason=reason) for i, name, reason in frames],
        test_frames=records(assignment.test_frames),
        skipped_static=records(assignment.skipped_static),
    )
    _FILE.write(record, path)


def read_assignment(path: Path, capture: Capture | None = None) -> FrameAssignment:
    """Read `frames.json`; if a capture is given, check that the frames are of this capture.

    Raises:
        RunError: the file is missing, broken, of another format or newer, or its frames are not those of the capture.
    """
    record = _FILE.read(path)
    if record.capture is not None and not is_file_name(record.capture.removesuffix(".json")):
        raise RunError(f"{path}: capture is {format_value(record.capture)}, not a file name; partition again")
    lists = {key: getattr(record, key) for key in ("frames", "test_frames", "skipped_static")}
    for key, items in lists.items():
        for i, item in enumerate(items):
            if capture is not None and (item.index >= len(capture) or capture.name(item.index) != item.name):
                name = format_value(item.name)
                raise RunError(
                    f"{path}: {key}[{i}]: frame {name} is not number {item.index} of the capture; partition it again"
                )
    indices = {key: tuple(item.index for item in items) for key, items in lists.items()}
    if len({i for frames in indices.values() for i in frames}) < sum(map(len, indices.values())):
        raise RunError(f"{path}: a frame is listed twice; partition again")
    reasons = tuple(item.reason for item in record.frames)
    return FrameAssignment(block=record.block, reasons=reasons, capture=record.capture, **indices)


def check_assignment(path: Path, block: str, part: Capture) -> None:
    """Check that a file assigns exactly the frames of a part of a capture to a block, in this order.

    Raises:
        RunError: the file is missing, broken, of another format or newer, or assigns others.
    """
    record = _FILE.read(path)
    if record.block != block:
        raise RunError(
            f"{path}: block is {format_value(record.block)}, another block; restore the file, or partition again"
        )
    if part.part is None:
        raise ValueError("not a part of a capture")
    frames = list(zip(part.part.numbers.tolist(), part.column("name"), strict=True))
    if len(record.frames) != len(frames):
        raise RunError(f"{path}: has {len(record.frames)} frames, the block trains on {len(frames)}; partition again")
    for i, (item, frame) in enumerate(zip(record.frames, frames, strict=True)):
        if (item.index, item.name) != frame:
            raise RunError(
                f"{path}: frames[{i}]: number {item.index}, {format_value(item.name)}; "
                f"the block trains on number {frame[0]}, {format_value(frame[1])}; partition again"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """The frames that belong to one block, whether they train it or are held out; indices ascending."""

    inside: Int[Tensor, "inside"]
    """Frames assigned by position."""
    visible: Int[Tensor, "visible"]
    """Frames assigned by visibility; some may be inside as well."""

    @property
    def all(self) -> Int[Tensor, "members"]:
        return torch.cat([self.inside, self.visible]).unique()


def _from_air(geometry: CaptureGeometry, blocks: Sequence[Block]) -> Iterator[_Members]:
    """Yield the members of each block: it fills enough of their views, or more than any other."""
    overlaps = aerial_overlap(geometry, blocks)
    largest = overlaps.max(axis=1).toarray().ravel()
    is_lost = torch.from_numpy(largest == 0)
    centers, by_block = PositionIndex(geometry.centers), overlaps.tocsc()
    by_block.sort_indices()
    for i, block in enumerate(blocks):
        column = slice(by_block.indptr[i], by_block.indptr[i + 1])
        frames, values = by_block.indices[column].astype(np.int64), by_block.data[column]
        visible = frames[(values >= MIN_OVERLAP) | (values == largest[frames])]
        # A frame that sees no block is assigned by its position.
        inside = centers.inside(block, INSIDE_MARGIN)
        yield _Members(inside=inside[is_lost[inside]], visible=torch.from_numpy(visible))


def _from_street(geometry: CaptureGeometry, blocks: Sequence[Block]) -> Iterator[_Members]:
    """Yield the members of each block: the frames inside, and by visibility the best of those not far outside."""
    centers, views = PositionIndex(geometry.centers), StreetViews(geometry)
    for block in blocks:
        inside, in_range = centers.inside(block, INSIDE_MARGIN), centers.inside(block, OUTSIDE_MARGIN)
        outside = in_range[~torch.isin(in_range, inside, assume_unique=True)]
        overlaps = views.overlap(block, outside)
        outside, overlaps = outside[overlaps >= MIN_OVERLAP], overlaps[overlaps >= MIN_OVERLAP]
        best = overlaps.argsort(descending=True, stable=True)[: max(1, len(inside))]
        yield _Members(inside=inside, visible=outside[best].sort().values)


class _Tracks:
    """The tracks of a capture, and which frames of a block are left out because the camera did not move."""

    def __init__(self, geometry: CaptureGeometry) -> None:
        self._geometry = geometry
        tracks = geometry.sorted_tracks()
        order = np.concatenate(tracks)
        self._rank = np.empty(len(order), np.int64)
        self._rank[order] = np.arange(len(order))
        self._track = np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])[self._rank]

    def moving(self, frames: Int[np.ndarray, "frames"], block: Block) -> list[int]:
        """Return those of the frames, ascending, that moved since the one before in their track."""
        # Cameras that stand close together and look far move little compared with their block.
        min_motion = MIN_MOTION * min(block.radius, self._geometry.extent)
        ordered = frames[self._rank[frames].argsort()]
        ends = np.flatnonzero(np.diff(self._track[ordered])) + 1
        moving: list[int] = []
        for part in np.split(ordered, ends):
            poses = self._geometry.cameras.camera_to_world[torch.from_numpy(part)]
            moving += part[moving_frames(poses, min_motion)].tolist()
        return sorted(moving)


def _uses(count: int, held_out: HeldOut) -> Int[np.ndarray, "frames"]:
    """Return the use of each frame: `TRAIN`, `TEST` or `UNUSED`."""
    uses = np.full(count, TRAIN)
    uses[list(held_out.unused)] = UNUSED
    uses[list(held_out.test)] = TEST
    return uses


def _assignment(tracks: _Tracks, block: Block, members: _Members, uses: Int[np.ndarray, "frames"]) -> FrameAssignment:
    frames = members.all.numpy()
    candidates = frames[uses[frames] == TRAIN]
    moving = tracks.moving(candidates, block)
    inside = set(members.inside.tolist())
    return FrameAssignment(
        block=block.name,
        frames=tuple(moving),
        reasons=tuple("position" if i in inside else "visible" for i in moving),
        test_frames=tuple(frames[uses[frames] == TEST].tolist()),
        skipped_static=tuple(np.setdiff1d(candidates, moving).tolist()),
    )


def _check_unassigned(geometry: CaptureGeometry, members: Sequence[_Members], outliers: Collection[int]) -> None:
    is_assigned = np.zeros(len(geometry), bool)
    is_assigned[list(outliers)] = True
    for block_members in members:
        is_assigned[block_members.all.numpy()] = True
    unassigned = [geometry.names[i] for i in np.flatnonzero(~is_assigned)]
    if unassigned:
        raise PlacementError(
            f"{join_names('frame', unassigned)}: in no block; enlarge a block, add one, or leave frames out"
        )


def _check_empty(assignments: Sequence[FrameAssignment]) -> None:
    empty_blocks = [assignment.block for assignment in assignments if not assignment.frames]
    if empty_blocks:
        raise PlacementError(f"{join_names('block', empty_blocks)}: no training frames; move, enlarge or remove it")
