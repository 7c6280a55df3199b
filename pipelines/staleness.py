"""The inputs of a video or an evaluation, and what has changed in the run since."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from blocknerf.city.appearance_presets import AppearancePreset, read_preset
from blocknerf.city.cache import LoadedBlock, Loader
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import BlockNerfError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.json_file import Record


class Inputs(Record, frozen=True, kw_only=True):
    """Digests of all that determines a rendering apart from its settings."""

    blocks: Mapping[str, str]
    """Fingerprint of each trained block that was rendered or culled by visibility."""
    pose_corrections: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Digest of the refined poses of each of these blocks; no entry for a block without refined poses."""
    presets: Mapping[str, Mapping[str, str]] = msgspec.field(default_factory=dict)
    """For each appearance preset: digest of each block's code together with the segment used for exposures."""
    poses: str | None = None
    """Digest of the run's aligned poses; None if there are none."""

    def of(self, names: Iterable[str]) -> "Inputs":
        """Return the inputs that concern these blocks."""
        kept = set(names)
        presets = {name: _only(codes, kept) for name, codes in self.presets.items()}
        blocks, corrections = _only(self.blocks, kept), _only(self.pose_corrections, kept)
        return Inputs(blocks=blocks, pose_corrections=corrections, presets=presets, poses=self.poses)


def merge_inputs(parts: Sequence[Inputs]) -> Inputs:
    """Merge the inputs of several renderings, which must agree where they overlap."""
    presets: dict[str, dict[str, str]] = {}
    for part in parts:
        for name, codes in part.presets.items():
            presets.setdefault(name, {}).update(codes)
    blocks = {name: mark for part in parts for name, mark in part.blocks.items()}
    corrections = {name: mark for part in parts for name, mark in part.pose_corrections.items()}
    return Inputs(blocks=blocks, pose_corrections=corrections, presets=presets, poses=parts[0].poses if parts else None)


class CurrentInputs:
    """The current digests of a run's files, each computed once."""

    def __init__(self, folder: RunFolder, presets: Mapping[str, AppearancePreset] | None = None) -> None:
        """Read a run.

        Args:
            folder: The run.
            presets: The appearance presets in use, by name.
        """
        self._folder = folder
        self._marks: dict[str, tuple[str | None, str | None]] = {}
        self._presets = {name: _code_digests(preset) for name, preset in (presets or {}).items()}
        self._poses = _file_mark(folder.poses)

    def of(self, names: Iterable[str]) -> Inputs:
        """Return the inputs of a rendering that uses these blocks. Blocks without a readable field are left out."""
        names = set(names)
        marks = {name: self._marks[name] if name in self._marks else self._compute(name) for name in names}
        blocks = {name: mark for name, (mark, _) in marks.items() if mark is not None}
        corrections = {name: poses for name, (_, poses) in marks.items() if poses is not None}
        return Inputs(blocks=blocks, pose_corrections=corrections, presets=self._presets, poses=self._poses).of(names)

    def noted(self, load: Loader) -> Loader:
        """Return a loader that computes the digest of each block before it reads the file.

        A block that is retrained in between is then recorded with the old digest, and detected as stale later.
        """

        def load_noted(name: str) -> LoadedBlock:
            self._compute(name)
            return load(name)

        return load_noted

    def _compute(self, name: str) -> tuple[str | None, str | None]:
        """Return the digests of a block's field and of its refined poses."""
        marks = _field_mark(self._folder.field(name)), _file_mark(self._folder.pose_corrections(name))
        self._marks[name] = marks
        return marks


def changes(folder: RunFolder, *recorded: Inputs) -> tuple[str, ...]:
    """Return what has changed in a run since it had these inputs, one clause per change; empty if up to date.

    Presets are compared only for the blocks of the inputs.
    """
    current = CurrentInputs(folder, _readable_presets(folder, {name for part in recorded for name in part.presets}))
    pairs = [(part, current.of(part.blocks)) for part in recorded]
    gone = sorted({name for part, now in pairs for name in part.blocks.keys() - now.blocks.keys()})
    retrained = _differing([(part.blocks, now.blocks) for part, now in pairs], exclude=gone)
    # A retrained block also has new poses, so only the retraining is reported.
    refined = _differing(
        [(part.pose_corrections, now.pose_corrections) for part, now in pairs], exclude=[*gone, *retrained]
    )
    matched = _differing([(part.presets, now.presets) for part, now in pairs])
    clauses = [
        _clause(retrained, "block {} was retrained since", "blocks {} were retrained since"),
        _clause(gone, "block {} is no longer trained", "blocks {} are no longer trained"),
        _clause(refined, "poses of block {} were refined again since", "poses of blocks {} were refined again since"),
        _clause(matched, "preset {} was matched again since", "presets {} were matched again since"),
        "the poses of the run were aligned again since" if any(now.poses != part.poses for part, now in pairs) else "",
    ]
    return tuple(clause for clause in clauses if clause)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as content:
        digest = hashlib.sha256()
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _only(marks: Mapping[str, str], names: set[str]) -> dict[str, str]:
    return {name: mark for name, mark in sorted(marks.items()) if name in names}


def _field_mark(path: Path) -> str | None:
    """Return the fingerprint of a field; None if it is missing or broken, which loading it will report."""
    try:
        return fingerprint(path)
    except BlockNerfError:
        return None


def _file_mark(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def _code_digests(preset: AppearancePreset) -> dict[str, str]:
    return {
        name: hashlib.sha256(preset.segment.encode() + b"\0" + code.cpu().numpy().tobytes()).hexdigest()
        for name, code in preset.codes.items()
    }


def _readable_presets(folder: RunFolder, names: Iterable[str]) -> dict[str, AppearancePreset]:
    presets = {name: _readable_preset(folder.appearance_preset(name)) for name in names}
    return {name: preset for name, preset in presets.items() if preset is not None}


def _readable_preset(path: Path) -> AppearancePreset | None:
    """Return a preset; None if it is missing or broken, and so differs from the recorded one."""
    try:
        return read_preset(path)
    except BlockNerfError:
        return None


def _differing(
    pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], exclude: Collection[str] = ()
) -> list[str]:
    """Return the names of entries that differ, each once."""
    names = {name for old, new in pairs for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return sorted(names - set(exclude))


def _clause(names: Sequence[str], one: str, many: str) -> str:
    """Return one clause about some blocks or presets; empty if there are none.

    >>> _clause(["b001", "b002"], "block {} was retrained since", "blocks {} were retrained since")
    'blocks b001, b002 were retrained since'
    """
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (one if len(names) == 1 else many).format(", ".join(names[:4]) + more) if names else ""
