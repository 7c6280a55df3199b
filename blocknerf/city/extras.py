"""What a run can be shown without: looks, points and training records, and which of their files are broken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from blocknerf.capture.capture import Capture
from blocknerf.capture.json_reader import JsonReader
from blocknerf.capture.points import PointCloud
from blocknerf.city.appearance_presets import DEFAULT_PRESET, AppearancePreset, load_preset
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import BlockNerfError, RunError
from blocknerf.files import read_json
from blocknerf.values import format_value

_Read = TypeVar("_Read")
_REMEDY = "train the block again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """What `train.json` says of a block, as far as others read it; None is what it does not say."""

    downscale: int = 1
    """By how much its images were shrunk."""
    frames: int | None = None
    """Images that train it."""
    log: str | None = None
    """SHA-256 of its `log.jsonl`."""
    psnr: float | None = None
    """In training, over its last tenth, in dB."""
    seconds: float = 0.0
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def read_training_record(path: Path) -> TrainingRecord:
    """Read a block's `train.json`.

    Raises:
        RunError: it is missing or broken; the message names file, key and remedy.
    """
    entry = JsonReader(read_json(path, "training record"), str(path), remedy=_REMEDY, error=RunError)
    config = entry.inner("config")
    if entry.optional("block", added=True) and entry.text("block") != path.parent.name:
        raise RunError(
            f"{entry.location('block')} is {format_value(entry.text('block'))}, another block; restore the file"
        )
    versions = entry.inner("versions") if entry.optional("versions", added=True) else None
    return TrainingRecord(
        downscale=config.int_("downscale", least=1),
        frames=entry.int_("frames") if entry.optional("frames", added=True) else None,
        log=entry.text("log_sha256") if entry.optional("log_sha256", added=True) else None,
        psnr=entry.number("psnr") if entry.optional("psnr", added=True) else None,
        seconds=entry.number("seconds") if entry.optional("seconds", added=True) else 0.0,
        device=entry.text("device") if entry.optional("device", added=True) else None,
        versions={key: versions.text(key) for key in versions} if versions is not None else {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Those of one run that can be used, and what is wrong with the others."""

    presets: Mapping[str, AppearancePreset]
    """That fit the blocks as they are, by name, the default one first."""
    points: PointCloud | None
    """None where the capture has none, too."""
    records: Mapping[str, TrainingRecord]
    """By trained block, as far as they can be read."""
    faults: tuple[str, ...]
    """One line for each file that is broken or outdated: which, what is wrong, and what to do."""

    @classmethod
    def read(cls, run: RunFolder, city: City, capture: Capture) -> "Extras":
        """Read all of a run's; a file that cannot be used is named, and the rest is there."""
        faults: list[str] = []
        looks: dict[str, AppearancePreset] = {}
        for name in sorted(run.preset_names(), key=lambda name: (name != DEFAULT_PRESET, name)):
            look = _tried(partial(_load_preset, run, name, city, capture), run.appearance_preset(name), faults)
            if look is not None:
                looks[name] = look
        points = _tried(capture.read_sparse_points, capture.image_dir / (capture.sparse_points or ""), faults)
        names = sorted({block.name for block in city.blocks} & set(run.trained_blocks()))
        paths = {name: run.train_summary(name) for name in names}
        records = {name: _tried(partial(read_training_record, path), path, faults) for name, path in paths.items()}
        found = {name: record for name, record in records.items() if record is not None}
        return cls(presets=looks, points=points, records=found, faults=tuple(faults))


def _load_preset(run: RunFolder, name: str, city: City, capture: Capture) -> AppearancePreset:
    look = load_preset(run, name, city.digest)
    if look.segment not in capture.segments:
        why = f"segment: the capture has none named {format_value(look.segment)}"
        raise RunError(f"{run.appearance_preset(name)}: {why}; run 'blocknerf match' with --appearance {name} again")
    return look


def _tried(read: Callable[[], _Read], path: Path, faults: list[str]) -> _Read | None:
    """What `read` gives of a file; None where it cannot, and then a fault that begins with the file's path."""
    try:
        return read()
    except BlockNerfError as error:
        why = str(error)
        faults.append(why if why.startswith(str(path)) else f"{path}: {why}")
        return None
