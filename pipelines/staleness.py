"""What a video or scores were made of, and what of that has changed in the run since."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocknerf.capture.json_reader import JsonReader
from blocknerf.city.appearance_presets import AppearancePreset, read_preset
from blocknerf.city.cache import LoadedBlock, Loader
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import BlockNerfError
from blocknerf.fields.checkpoint import fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Digests of all that decides a rendering besides its settings."""

    blocks: Mapping[str, str]
    """Fingerprint of each trained block that was rendered, or that visibility left out."""
    pose_corrections: Mapping[str, str] = field(default_factory=dict)
    """Digest of the poses that each of them refined; none of blocks that kept the poses they were given."""
    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of each appearance preset that was shown: digest of each block's code, with the segment that gives exposures."""
    poses: str | None = None
    """Digest of the run's aligned poses; None where there are none."""

    def of(self, names: Iterable[str]) -> "Inputs":
        """Those that matter where only these blocks do."""
        kept = set(names)
        presets = {name: _only(codes, kept) for name, codes in self.presets.items()}
        blocks, offsets = _only(self.blocks, kept), _only(self.pose_corrections, kept)
        return Inputs(blocks=blocks, pose_corrections=offsets, presets=presets, poses=self.poses)

    def to_json(self) -> dict[str, Any]:
        """As a record holds them."""
        presets = {name: dict(codes) for name, codes in self.presets.items()}
        blocks, offsets = dict(self.blocks), dict(self.pose_corrections)
        return {"blocks": blocks, "pose_corrections": offsets, "presets": presets, "poses": self.poses}

    @classmethod
    def read(cls, entry: JsonReader) -> "Inputs":
        """What `to_json` wrote."""
        presets = entry.inner("presets")
        return cls(
            blocks=_read_marks(entry.inner("blocks")),
            pose_corrections=_read_marks(entry.inner("pose_corrections")),
            presets={name: _read_marks(presets.inner(name)) for name in presets},
            poses=entry.text("poses") if entry.optional("poses") else None,
        )


def join_clauses(parts: Sequence[Inputs]) -> Inputs:
    """All inputs of several renderings that agree where they overlap."""
    presets: dict[str, dict[str, str]] = {}
    for part in parts:
        for name, codes in part.presets.items():
            presets.setdefault(name, {}).update(codes)
    blocks = {name: mark for part in parts for name, mark in part.blocks.items()}
    offsets = {name: mark for part in parts for name, mark in part.pose_corrections.items()}
    return Inputs(blocks=blocks, pose_corrections=offsets, presets=presets, poses=parts[0].poses if parts else None)


class CurrentInputs:
    """The digests of a run's files as they are now, each taken once."""

    def __init__(self, folder: RunFolder, presets: Mapping[str, AppearancePreset] | None = None) -> None:
        """`presets` are the appearance presets that are shown, by name."""
        self._folder = folder
        self._marks: dict[str, tuple[str | None, str | None]] = {}
        self._presets = {name: _code_digests(look) for name, look in (presets or {}).items()}
        self._poses = _file_mark(folder.poses)

    def of(self, names: Iterable[str]) -> Inputs:
        """The inputs of a rendering that depends on these blocks; those without a readable field are left out."""
        names = set(names)
        marks = {name: self._marks[name] if name in self._marks else self._take(name) for name in names}
        blocks = {name: mark for name, (mark, _) in marks.items() if mark is not None}
        offsets = {name: poses for name, (_, poses) in marks.items() if poses is not None}
        return Inputs(blocks=blocks, pose_corrections=offsets, presets=self._presets, poses=self._poses).of(names)

    def noted(self, load: Loader) -> Loader:
        """A loader that takes the digest of each block before its file is read.

        A block that is retrained in between is then recorded as the older one, and so found out later.
        """

        def load_noted(name: str) -> LoadedBlock:
            self._take(name)
            return load(name)

        return load_noted

    def _take(self, name: str) -> tuple[str | None, str | None]:
        """Digests of a block's field and of the poses that it refined."""
        marks = _field_mark(self._folder.field(name)), _file_mark(self._folder.pose_corrections(name))
        self._marks[name] = marks
        return marks


def changes(folder: RunFolder, *then: Inputs) -> tuple[str, ...]:
    """What has changed in a run since it had these inputs, a clause each; none where a product is of the run as it is.

    Presets are compared for the blocks of the product alone.
    """
    current = CurrentInputs(folder, _readable_presets(folder, {name for part in then for name in part.presets}))
    both = [(part, current.of(part.blocks)) for part in then]
    gone = sorted({name for part, now in both for name in part.blocks.keys() - now.blocks.keys()})
    retrained = _differing([(part.blocks, now.blocks) for part, now in both], besides=gone)
    # Whatever is trained with other poses is another field as well.
    refined = _differing(
        [(part.pose_corrections, now.pose_corrections) for part, now in both], besides=[*gone, *retrained]
    )
    matched = _differing([(part.presets, now.presets) for part, now in both])
    clauses = [
        _clause(retrained, "block {} was retrained since", "blocks {} were retrained since"),
        _clause(gone, "block {} is no longer trained", "blocks {} are no longer trained"),
        _clause(refined, "poses of block {} were refined again since", "poses of blocks {} were refined again since"),
        _clause(matched, "preset {} was matched again since", "presets {} were matched again since"),
        "the poses of the run were aligned again since" if any(now.poses != part.poses for part, now in both) else "",
    ]
    return tuple(clause for clause in clauses if clause)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as content:
        digest = hashlib.sha256()
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _only(marks: Mapping[str, str], names: set[str]) -> dict[str, str]:
    return {name: mark for name, mark in sorted(marks.items()) if name in names}


def _read_marks(entry: JsonReader) -> dict[str, str]:
    return {name: entry.text(name) for name in entry}


def _field_mark(path: Path) -> str | None:
    """None where the block is not trained, or its file is broken: whoever loads it says why."""
    try:
        return fingerprint(path)
    except BlockNerfError:
        return None


def _file_mark(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def _code_digests(look: AppearancePreset) -> dict[str, str]:
    return {
        name: hashlib.sha256(look.segment.encode() + b"\0" + code.cpu().numpy().tobytes()).hexdigest()
        for name, code in look.codes.items()
    }


def _readable_presets(folder: RunFolder, names: Iterable[str]) -> dict[str, AppearancePreset]:
    found = {name: _readable_preset(folder.appearance_preset(name)) for name in names}
    return {name: look for name, look in found.items() if look is not None}


def _readable_preset(path: Path) -> AppearancePreset | None:
    """None for one that is missing or broken: it is not the one that was shown, in any case."""
    try:
        return read_preset(path)
    except BlockNerfError:
        return None


def _differing(
    pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], besides: Collection[str] = ()
) -> list[str]:
    """Names of whatever is not what it was, each once."""
    found = {name for then, now in pairs for name in then.keys() | now.keys() if then.get(name) != now.get(name)}
    return sorted(found - set(besides))


def _clause(names: Sequence[str], one: str, many: str) -> str:
    """One clause about some blocks or presets; empty where there are none.

    >>> _clause(["b001", "b002"], "block {} was retrained since", "blocks {} were retrained since")
    'blocks b001, b002 were retrained since'
    """
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (one if len(names) == 1 else many).format(", ".join(names[:4]) + more) if names else ""
