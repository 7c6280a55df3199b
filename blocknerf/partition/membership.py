"""Which frames train a block, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.entry import Entry
from blocknerf.errors import PlacementError, RunError
from blocknerf.files import check_format, format_json, read_json, write_atomic
from blocknerf.options import check_whole
from blocknerf.partition.block import Block, is_file_name
from blocknerf.partition.placement import listed
from blocknerf.partition.sight import sight_shares
from blocknerf.partition.survey import Survey, survey
from blocknerf.partition.thinning import moving
from blocknerf.values import shown

MEMBERSHIP_FORMAT = "blocknerf.membership/1"
MARGIN = 0.1
"""A camera this share of the radius outside still stands in the block: what it sees close by is inside."""
ENOUGH = 0.5
"""A frame joins a block that fills half of what it sees in reach, from outside of it or from the air."""
AROUND = 0.5
"""A street camera may join from this share of the radius outside, where the block may still be rendered from."""
STILL = 0.01
"""Share of the radius that a camera must move by to be worth another frame."""

Reason = Literal["position", "sight"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The frames of one block, as positions in the capture."""

    block: str
    frames: tuple[int, ...]
    """Frames that train it, ascending."""
    reasons: tuple[Reason, ...]
    """Why, one for each of `frames`: the camera stands in the block, or sees enough of it."""
    held_out: tuple[int, ...] = ()
    """Frames that would train it, were they not kept for evaluation."""
    thinned: tuple[int, ...] = ()
    """Frames left out because the camera stood still."""
    capture: str | None = None
    """The file beside frames.json that holds the photographs, where they are not the run's."""

    def __post_init__(self) -> None:
        if len(self.reasons) != len(self.frames):
            raise RunError(f"membership of {self.block}: {len(self.reasons)} reasons for {len(self.frames)} frames")


def assign(
    capture: Capture, blocks: Sequence[Block], *, held_out: int = 8, allow_orphans: bool = False
) -> tuple[Membership, ...]:
    """The membership of every block, in the order of `blocks`.

    Along streets a frame joins the blocks it stands in; others that mostly see the block join too, best first,
    until they are as many. From the air sight alone decides, since cameras fly outside of what they see. Every
    `held_out`-th frame of the capture is set aside (0: none).

    Raises:
        PlacementError: a frame is in no block (unless `allow_orphans`), or a block has no frames.
    """
    check_held_out(held_out)
    known = survey(capture)
    shares = sight_shares(known, blocks)
    near = torch.stack([block.contains(known.centers, MARGIN) for block in blocks], -1)
    stands, sees = _from_air(shares, near) if known.looks_down else _from_street(known, shares, near, blocks)
    if not allow_orphans:
        _check_orphans(known, (stands | sees).any(-1))
    reserved = _reserved(len(known), held_out)
    tracks = known.along_tracks()
    members = [_membership(known, tracks, b, stands[:, i], sees[:, i], reserved) for i, b in enumerate(blocks)]
    _check_empty(members)
    return tuple(members)


def check_held_out(held_out: int) -> None:
    """Refuse to hold out what leaves nothing to train on.

    Raises:
        PlacementError: every frame would be held out.
        OptionError: it is no count of frames.
    """
    check_whole(least=0, held_out=held_out)
    if held_out == 1:
        raise PlacementError("--held-out 1 leaves nothing to train on; give 0 or at least 2")


def write_membership(membership: Membership, capture: Capture, path: Path) -> None:
    """Write `frames.json`; names stand beside the positions, so that the file can be read alone."""

    def named(indices: tuple[int, ...]) -> list[dict[str, Any]]:
        return [{"index": i, "name": capture.frames[i].name} for i in indices]

    trained = zip(named(membership.frames), membership.reasons, strict=True)
    document = {
        "format": MEMBERSHIP_FORMAT,
        "block": membership.block,
        **({"capture": membership.capture} if membership.capture is not None else {}),
        "frames": [entry | {"reason": reason} for entry, reason in trained],
        "held_out": named(membership.held_out),
        "thinned": named(membership.thinned),
    }
    write_atomic(path, format_json(document))


def read_membership(path: Path, capture: Capture | None = None) -> Membership:
    """Read `frames.json`, and check that it is about this capture where one is given.

    Raises:
        RunError: the file is missing, broken, foreign or newer, or names other frames than the capture.
    """
    entry = Entry(read_json(path, "membership"), str(path), remedy="partition again", error=RunError)
    check_format(entry.text("format"), MEMBERSHIP_FORMAT, path, "partition again")
    frames = entry.objects("frames")
    found = Membership(
        block=entry.text("block"),
        frames=tuple(_index(item, capture) for item in frames),
        reasons=tuple(_reason(item) for item in frames),
        held_out=tuple(_index(item, capture) for item in entry.objects("held_out")),
        thinned=tuple(_index(item, capture) for item in entry.objects("thinned")),
        capture=_beside(entry) if entry.has("capture", added=True) else None,
    )
    entry.finish()
    listed = [*found.frames, *found.held_out, *found.thinned]
    if len(set(listed)) < len(listed):
        raise RunError(f"{path}: a frame is listed twice; partition again")
    return found


def _index(entry: Entry, capture: Capture | None) -> int:
    index, name = entry.whole("index"), entry.text("name")
    if capture is not None and (index >= len(capture) or capture.frames[index].name != name):
        raise RunError(f"{entry.where}: frame {shown(name)} is not number {index} of the capture; partition it again")
    return index


def _beside(entry: Entry) -> str:
    name = entry.text("capture")
    if not is_file_name(name.removesuffix(".json")):
        raise RunError(f"{entry.place('capture')} is {shown(name)}, not the name of a file beside it; partition again")
    return name


def _reason(entry: Entry) -> Reason:
    found = entry.text("reason")
    for reason in REASONS:
        if found == reason:
            return reason
    raise RunError(f"{entry.place('reason')} is {shown(found)}, none of {', '.join(REASONS)}; partition again")


def _from_air(
    shares: Float[Tensor, "frames blocks"], near: Bool[Tensor, "frames blocks"]
) -> tuple[Bool[Tensor, "frames blocks"], Bool[Tensor, "frames blocks"]]:
    """Members by position (none) and by sight: what fills enough of the picture, and in any case what fills most."""
    best = (shares == shares.amax(-1, keepdim=True)) & (shares > 0)
    # A frame that sees nothing known belongs where it flies.
    blind = shares.amax(-1, keepdim=True) == 0
    return near & blind, (shares >= ENOUGH) | best


def _from_street(
    known: Survey, shares: Float[Tensor, "frames blocks"], near: Bool[Tensor, "frames blocks"], blocks: Sequence[Block]
) -> tuple[Bool[Tensor, "frames blocks"], Bool[Tensor, "frames blocks"]]:
    """Members by position, and by sight those ranked best among the frames outside."""
    around = torch.stack([block.contains(known.centers, AROUND) for block in blocks], -1)
    outside = torch.where(~near & around & (shares >= ENOUGH), shares, 0.0)
    rank = outside.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    return near, (outside > 0) & (rank < near.sum(0).clamp_min(1))


def _reserved(count: int, held_out: int) -> Bool[Tensor, "frames"]:
    indices = torch.arange(count)
    return indices % held_out == held_out // 2 if held_out else torch.zeros(count, dtype=torch.bool)


def _membership(
    known: Survey,
    tracks: list[list[int]],
    block: Block,
    stands: Bool[Tensor, "frames"],
    sees: Bool[Tensor, "frames"],
    reserved: Bool[Tensor, "frames"],
) -> Membership:
    member = stands | sees
    candidates = set((member & ~reserved).nonzero()[:, 0].tolist())
    kept: set[int] = set()
    for track in tracks:
        taken = [i for i in track if i in candidates]
        poses = known.cameras.camera_to_world[taken]
        kept |= {taken[i] for i in moving(poses, STILL * block.radius)}
    frames = tuple(sorted(kept))
    return Membership(
        block=block.name,
        frames=frames,
        reasons=tuple("position" if stands[i] else "sight" for i in frames),
        held_out=tuple((member & reserved).nonzero()[:, 0].tolist()),
        thinned=tuple(sorted(candidates - kept)),
    )


def _check_orphans(known: Survey, belongs: Bool[Tensor, "frames"]) -> None:
    orphans = [known.names[i] for i in (~belongs).nonzero()[:, 0].tolist()]
    if orphans:
        raise PlacementError(f"{listed('frame', orphans)} in no block; enlarge a block, add one, or leave frames out")


def _check_empty(members: Sequence[Membership]) -> None:
    empty = [member.block for member in members if not member.frames]
    if empty:
        raise PlacementError(f"{listed('block', empty)} without a frame to train on; move, enlarge or remove it")
