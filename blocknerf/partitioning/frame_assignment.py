"""Assign frames to blocks: which frames train a block, and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import outlying_frames
from blocknerf.errors import PlacementError, RunError
from blocknerf.json_file import Count, JsonFile, Record
from blocknerf.options import check_whole
from blocknerf.partitioning.block import Block, is_file_name
from blocknerf.partitioning.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partitioning.held_out import HeldOut, hold_out
from blocknerf.partitioning.placement import join_names
from blocknerf.partitioning.static_frames import moving_frames
from blocknerf.partitioning.view_overlap import view_overlap
from blocknerf.values import format_value

INSIDE_MARGIN = 0.1
"""A camera up to this fraction of the radius outside counts as inside: what it sees close by is inside."""
MIN_OVERLAP = 0.5
"""A frame of an outside or aerial camera is assigned if the block fills this fraction of its view in range."""
OUTSIDE_MARGIN = 0.5
"""Maximum distance of an outside street camera, a fraction of the radius; the block may be rendered from there."""
MIN_MOTION = 0.01
"""Minimum camera motion between training frames, as a fraction of the radius."""

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
    overlaps = view_overlap(geometry, blocks)
    inside = torch.stack([block.contains(geometry.centers, INSIDE_MARGIN) for block in blocks], -1)
    if geometry.is_aerial:
        inside, visible = _from_air(overlaps, inside)
    else:
        inside, visible = _from_street(geometry, overlaps, inside, blocks)
    if not allow_unassigned:
        _check_unassigned(geometry, (inside | visible).any(-1), outlying_frames(capture))
    held_out = hold_out(capture, test_every)
    tracks = geometry.sorted_tracks()
    assignments = [
        _assignment(geometry, tracks, block, inside[:, i], visible[:, i], held_out) for i, block in enumerate(blocks)
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
        return [_FrameRecord(index=i, name=capture.frames[i].name) for i in indices]

    frames = zip(assignment.frames, assignment.reasons, strict=True)
    record = _AssignmentRecord(
        block=assignment.block,
        capture=assignment.capture,
        frames=[_TrainingFrameRecord(index=i, name=capture.frames[i].name, reason=reason) for i, reason in frames],
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
            if capture is not None and (item.index >= len(capture) or capture.frames[item.index].name != item.name):
                name = format_value(item.name)
                raise RunError(
                    f"{path}: {key}[{i}]: frame {name} is not number {item.index} of the capture; partition it again"
                )
    indices = {key: tuple(item.index for item in items) for key, items in lists.items()}
    if len({i for frames in indices.values() for i in frames}) < sum(map(len, indices.values())):
        raise RunError(f"{path}: a frame is listed twice; partition again")
    reasons = tuple(item.reason for item in record.frames)
    return FrameAssignment(block=record.block, reasons=reasons, capture=record.capture, **indices)


def _from_air(
    overlaps: Float[Tensor, "frames blocks"], inside: Bool[Tensor, "frames blocks"]
) -> tuple[Bool[Tensor, "frames blocks"], Bool[Tensor, "frames blocks"]]:
    """Return the frames assigned by position and by visibility: to each block that fills enough or most of the view."""
    is_best = (overlaps == overlaps.amax(-1, keepdim=True)) & (overlaps > 0)
    # A frame that sees no block is assigned by its position.
    sees_nothing = overlaps.amax(-1, keepdim=True) == 0
    return inside & sees_nothing, (overlaps >= MIN_OVERLAP) | is_best


def _from_street(
    geometry: CaptureGeometry,
    overlaps: Float[Tensor, "frames blocks"],
    inside: Bool[Tensor, "frames blocks"],
    blocks: Sequence[Block],
) -> tuple[Bool[Tensor, "frames blocks"], Bool[Tensor, "frames blocks"]]:
    """Return the frames assigned by position, and by visibility the best-ranked ones of the frames outside."""
    in_range = torch.stack([block.contains(geometry.centers, OUTSIDE_MARGIN) for block in blocks], -1)
    outside = torch.where(~inside & in_range & (overlaps >= MIN_OVERLAP), overlaps, 0.0)
    rank = outside.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    return inside, (outside > 0) & (rank < inside.sum(0).clamp_min(1))


def _assignment(
    geometry: CaptureGeometry,
    tracks: list[list[int]],
    block: Block,
    inside: Bool[Tensor, "frames"],
    visible: Bool[Tensor, "frames"],
    held_out: HeldOut,
) -> FrameAssignment:
    members = set((inside | visible).nonzero()[:, 0].tolist())
    candidates = members - {*held_out.test, *held_out.unused}
    moving: set[int] = set()
    # Cameras that stand close together and look far move little compared with their block.
    min_motion = MIN_MOTION * min(block.radius, geometry.extent)
    for track in tracks:
        track_frames = [i for i in track if i in candidates]
        poses = geometry.cameras.camera_to_world[track_frames]
        moving |= {track_frames[i] for i in moving_frames(poses, min_motion)}
    frames = tuple(sorted(moving))
    return FrameAssignment(
        block=block.name,
        frames=frames,
        reasons=tuple("position" if inside[i] else "visible" for i in frames),
        test_frames=tuple(i for i in held_out.test if i in members),
        skipped_static=tuple(sorted(candidates - moving)),
    )


def _check_unassigned(
    geometry: CaptureGeometry, is_assigned: Bool[Tensor, "frames"], outliers: Collection[int]
) -> None:
    unassigned = [geometry.names[i] for i in (~is_assigned).nonzero()[:, 0].tolist() if i not in outliers]
    if unassigned:
        raise PlacementError(
            f"{join_names('frame', unassigned)}: in no block; enlarge a block, add one, or leave frames out"
        )


def _check_empty(assignments: Sequence[FrameAssignment]) -> None:
    empty_blocks = [assignment.block for assignment in assignments if not assignment.frames]
    if empty_blocks:
        raise PlacementError(f"{join_names('block', empty_blocks)}: no training frames; move, enlarge or remove it")
