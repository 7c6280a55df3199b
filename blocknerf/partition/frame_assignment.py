"""Which frames train a block, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.json_reader import JsonReader
from blocknerf.errors import PlacementError, RunError
from blocknerf.files import check_format_version, format_json, read_json, write_atomic
from blocknerf.options import check_whole
from blocknerf.partition.block import Block, is_file_name
from blocknerf.partition.capture_geometry import CaptureGeometry, capture_geometry
from blocknerf.partition.placement import join_names
from blocknerf.partition.static_frames import moving_frames
from blocknerf.partition.view_overlap import view_overlap
from blocknerf.values import format_value

ASSIGNMENT_FORMAT = "blocknerf.frame-assignment/1"
INSIDE_MARGIN = 0.1
"""A camera this share of the radius outside still stands in the block: what it sees close by is inside."""
MIN_OVERLAP = 0.5
"""A frame joins a block that fills half of what it sees in reach, from outside of it or from the air."""
OUTSIDE_MARGIN = 0.5
"""A street camera may join from this share of the radius outside, where the block may still be rendered from."""
MIN_MOTION = 0.01
"""Share of the radius that a camera must move by to be worth another frame."""

Reason = Literal["position", "visible"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAssignment:
    """The frames of one block, as positions in the capture."""

    block: str
    frames: tuple[int, ...]
    """Frames that train it, ascending."""
    reasons: tuple[Reason, ...]
    """Why, one for each of `frames`: the camera stands in the block, or sees enough of it."""
    test_frames: tuple[int, ...] = ()
    """Frames that would train it, were they not kept for evaluation."""
    skipped_static: tuple[int, ...] = ()
    """Frames left out because the camera stood still."""
    capture: str | None = None
    """The file beside frames.json that holds the photographs, where they are not the run's."""

    def __post_init__(self) -> None:
        if len(self.reasons) != len(self.frames):
            raise RunError(f"membership of {self.block}: {len(self.reasons)} reasons for {len(self.frames)} frames")


def assign_frames(
    capture: Capture, blocks: Sequence[Block], *, test_every: int = 8, allow_orphans: bool = False
) -> tuple[FrameAssignment, ...]:
    """The membership of every block, in the order of `blocks`.

    Along streets a frame joins the blocks it stands in; others that mostly see the block join too, best first,
    until they are as many. From the air sight alone decides, since cameras fly outside of what they see. Every
    `test_every`-th frame of the capture is set aside (0: none).

    Raises:
        PlacementError: a frame is in no block (unless `allow_orphans`), or a block has no frames.
    """
    check_test_every(test_every)
    known = capture_geometry(capture)
    shares = view_overlap(known, blocks)
    near = torch.stack([block.contains(known.centers, INSIDE_MARGIN) for block in blocks], -1)
    stands, sees = _from_air(shares, near) if known.is_aerial else _from_street(known, shares, near, blocks)
    if not allow_orphans:
        _check_unassigned(known, (stands | sees).any(-1))
    reserved = _test_frames(len(known), test_every)
    tracks = known.sorted_tracks()
    members = [_membership(known, tracks, b, stands[:, i], sees[:, i], reserved) for i, b in enumerate(blocks)]
    _check_empty(members)
    return tuple(members)


def check_test_every(test_every: int) -> None:
    """Refuse to hold out what leaves nothing to train on.

    Raises:
        PlacementError: every frame would be held out.
        OptionError: it is no count of frames.
    """
    check_whole(least=0, test_every=test_every)
    if test_every == 1:
        raise PlacementError("--test-every 1 leaves nothing to train on; give 0 or at least 2")


def write_assignment(membership: FrameAssignment, capture: Capture, path: Path) -> None:
    """Write `frames.json`; names stand beside the positions, so that the file can be read alone."""

    def named(indices: tuple[int, ...]) -> list[dict[str, Any]]:
        return [{"index": i, "name": capture.frames[i].name} for i in indices]

    trained = zip(named(membership.frames), membership.reasons, strict=True)
    document = {
        "format": ASSIGNMENT_FORMAT,
        "block": membership.block,
        **({"capture": membership.capture} if membership.capture is not None else {}),
        "frames": [entry | {"reason": reason} for entry, reason in trained],
        "test_frames": named(membership.test_frames),
        "skipped_static": named(membership.skipped_static),
    }
    write_atomic(path, format_json(document))


def read_assignment(path: Path, capture: Capture | None = None) -> FrameAssignment:
    """Read `frames.json`, and check that it is about this capture where one is given.

    Raises:
        RunError: the file is missing, broken, foreign or newer, or names other frames than the capture.
    """
    entry = JsonReader(read_json(path, "membership"), str(path), remedy="partition again", error=RunError)
    check_format_version(entry.text("format"), ASSIGNMENT_FORMAT, path, "partition again")
    frames = entry.objects("frames")
    found = FrameAssignment(
        block=entry.text("block"),
        frames=tuple(_index(item, capture) for item in frames),
        reasons=tuple(_reason(item) for item in frames),
        test_frames=tuple(_index(item, capture) for item in entry.objects("test_frames")),
        skipped_static=tuple(_index(item, capture) for item in entry.objects("skipped_static")),
        capture=_beside(entry) if entry.optional("capture", added=True) else None,
    )
    entry.reject_unknown()
    join_names = [*found.frames, *found.test_frames, *found.skipped_static]
    if len(set(join_names)) < len(join_names):
        raise RunError(f"{path}: a frame is listed twice; partition again")
    return found


def _index(entry: JsonReader, capture: Capture | None) -> int:
    index, name = entry.int_("index"), entry.text("name")
    if capture is not None and (index >= len(capture) or capture.frames[index].name != name):
        raise RunError(
            f"{entry.where}: frame {format_value(name)} is not number {index} of the capture; partition it again"
        )
    return index


def _beside(entry: JsonReader) -> str:
    name = entry.text("capture")
    if not is_file_name(name.removesuffix(".json")):
        raise RunError(
            f"{entry.location('capture')} is {format_value(name)}, not the name of a file beside it; partition again"
        )
    return name


def _reason(entry: JsonReader) -> Reason:
    found = entry.text("reason")
    for reason in REASONS:
        if found == reason:
            return reason
    raise RunError(
        f"{entry.location('reason')} is {format_value(found)}, none of {', '.join(REASONS)}; partition again"
    )


def _from_air(
    shares: Float[Tensor, "frames blocks"], near: Bool[Tensor, "frames blocks"]
) -> tuple[Bool[Tensor, "frames blocks"], Bool[Tensor, "frames blocks"]]:
    """Members by position (none) and by sight: what fills enough of the picture, and in any case what fills most."""
    best = (shares == shares.amax(-1, keepdim=True)) & (shares > 0)
    # A frame that sees nothing known belongs where it flies.
    blind = shares.amax(-1, keepdim=True) == 0
    return near & blind, (shares >= MIN_OVERLAP) | best


def _from_street(
    known: CaptureGeometry,
    shares: Float[Tensor, "frames blocks"],
    near: Bool[Tensor, "frames blocks"],
    blocks: Sequence[Block],
) -> tuple[Bool[Tensor, "frames blocks"], Bool[Tensor, "frames blocks"]]:
    """Members by position, and by sight those ranked best among the frames outside."""
    around = torch.stack([block.contains(known.centers, OUTSIDE_MARGIN) for block in blocks], -1)
    outside = torch.where(~near & around & (shares >= MIN_OVERLAP), shares, 0.0)
    rank = outside.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    return near, (outside > 0) & (rank < near.sum(0).clamp_min(1))


def _test_frames(count: int, test_every: int) -> Bool[Tensor, "frames"]:
    indices = torch.arange(count)
    return indices % test_every == test_every // 2 if test_every else torch.zeros(count, dtype=torch.bool)


def _membership(
    known: CaptureGeometry,
    tracks: list[list[int]],
    block: Block,
    stands: Bool[Tensor, "frames"],
    sees: Bool[Tensor, "frames"],
    reserved: Bool[Tensor, "frames"],
) -> FrameAssignment:
    member = stands | sees
    candidates = set((member & ~reserved).nonzero()[:, 0].tolist())
    kept: set[int] = set()
    for track in tracks:
        taken = [i for i in track if i in candidates]
        poses = known.cameras.camera_to_world[taken]
        kept |= {taken[i] for i in moving_frames(poses, MIN_MOTION * block.radius)}
    frames = tuple(sorted(kept))
    return FrameAssignment(
        block=block.name,
        frames=frames,
        reasons=tuple("position" if stands[i] else "visible" for i in frames),
        test_frames=tuple((member & reserved).nonzero()[:, 0].tolist()),
        skipped_static=tuple(sorted(candidates - kept)),
    )


def _check_unassigned(known: CaptureGeometry, belongs: Bool[Tensor, "frames"]) -> None:
    orphans = [known.names[i] for i in (~belongs).nonzero()[:, 0].tolist()]
    if orphans:
        raise PlacementError(
            f"{join_names('frame', orphans)} in no block; enlarge a block, add one, or leave frames out"
        )


def _check_empty(members: Sequence[FrameAssignment]) -> None:
    empty = [member.block for member in members if not member.frames]
    if empty:
        raise PlacementError(f"{join_names('block', empty)} without a frame to train on; move, enlarge or remove it")
