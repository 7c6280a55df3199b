"""Optional files of a run: presets, points and training summaries, and which of them are broken."""

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

_T = TypeVar("_T")
_HINT = "train the block again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """The fields of a block's `train.json` that other modules read; None if a field is absent."""

    downscale: int = 1
    """Factor by which its images were downscaled."""
    frames: int | None = None
    """Number of training images."""
    log: str | None = None
    """SHA-256 of its `log.jsonl`."""
    psnr: float | None = None
    """Training PSNR over the last tenth of the steps, in dB."""
    seconds: float = 0.0
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def read_training_record(path: Path) -> TrainingRecord:
    """Read a block's `train.json`.

    Raises:
        RunError: the file is missing or broken; the message names file, key and hint.
    """
    entry = JsonReader(read_json(path, "training record"), str(path), remedy=_HINT, error=RunError)
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
    """The usable optional files of a run, and the faults of the others."""

    presets: Mapping[str, AppearancePreset]
    """Presets that match the current fields, by name, the default one first."""
    points: PointCloud | None
    """None also if the capture has none."""
    records: Mapping[str, TrainingRecord]
    """By trained block, if readable."""
    faults: tuple[str, ...]
    """One line for each file that is broken or stale: which file, what is wrong, and what to do."""

    @classmethod
    def read(cls, run: RunFolder, city: City, capture: Capture) -> "Extras":
        """Read the optional files of a run; report those that cannot be used."""
        faults: list[str] = []
        presets: dict[str, AppearancePreset] = {}
        for name in sorted(run.preset_names(), key=lambda name: (name != DEFAULT_PRESET, name)):
            preset = _read_or_report(
                partial(_load_preset, run, name, city, capture), run.appearance_preset(name), faults
            )
            if preset is not None:
                presets[name] = preset
        points = _read_or_report(capture.read_sparse_points, capture.points_path(capture.sparse_points or ""), faults)
        names = sorted({block.name for block in city.blocks} & set(run.trained_blocks()))
        paths = {name: run.train_summary(name) for name in names}
        summaries = {
            name: _read_or_report(partial(read_training_record, path), path, faults) for name, path in paths.items()
        }
        readable = {name: record for name, record in summaries.items() if record is not None}
        return cls(presets=presets, points=points, records=readable, faults=tuple(faults))


def _load_preset(run: RunFolder, name: str, city: City, capture: Capture) -> AppearancePreset:
    preset = load_preset(run, name, city.digest)
    if preset.segment not in capture.segments:
        reason = f"segment: the capture has none named {format_value(preset.segment)}"
        raise RunError(f"{run.appearance_preset(name)}: {reason}; run 'blocknerf match' with --appearance {name} again")
    return preset


def _read_or_report(read: Callable[[], _T], path: Path, faults: list[str]) -> _T | None:
    """Return the result of `read`; on an error, append a fault that starts with the file's path and return None."""
    try:
        return read()
    except BlockNerfError as error:
        reason = str(error)
        faults.append(reason if reason.startswith(str(path)) else f"{path}: {reason}")
        return None
