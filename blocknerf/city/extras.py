"""Optional files of a run: presets, points and training summaries, and which of them are broken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud
from blocknerf.city.appearance_presets import DEFAULT_PRESET, AppearancePreset, load_preset
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import BlockNerfError, RunError
from blocknerf.json_file import Count, JsonFile, Number, PositiveCount
from blocknerf.values import format_value

_T = TypeVar("_T")


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


class _Config(msgspec.Struct, frozen=True):
    downscale: PositiveCount


class _Summary(msgspec.Struct, frozen=True, kw_only=True):
    config: _Config
    block: str | None = None
    frames: Count | None = None
    log_sha256: str | None = None
    psnr: Number | None = None
    seconds: Number | None = None
    device: str | None = None
    versions: dict[str, str] | None = None


_FILE = JsonFile(content=_Summary, what="training record", remedy="train the block again")


def read_training_record(path: Path) -> TrainingRecord:
    """Read a block's `train.json`.

    Raises:
        RunError: the file is missing or broken; the message names file, key and hint.
    """
    summary = _FILE.read(path)
    if summary.block not in (None, path.parent.name):
        raise RunError(f"{path}: block is {format_value(summary.block)}, another block; restore the file")
    return TrainingRecord(
        downscale=summary.config.downscale,
        frames=summary.frames,
        log=summary.log_sha256,
        psnr=summary.psnr,
        seconds=summary.seconds or 0.0,
        device=summary.device,
        versions=summary.versions or {},
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
