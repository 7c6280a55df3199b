"""Record of how a video was rendered, frame by frame (`render.json`; `log.jsonl` while it is unfinished)."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.manifest import RENDERING_KEYS, City, Weighting, with_rendering
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import write_atomic
from blocknerf.json_file import Count, JsonFile, Number, PositiveCount, Record, to_builtins
from blocknerf.values import format_value
from pipelines.staleness import Inputs, file_digest, merge_inputs
from pipelines.training_log import read_lines

RENDER_FORMAT = "blocknerf.render/3"
OTHER_FOLDER_HINT = "choose another --name, or remove the folder"

DepthRange = tuple[Number, Number]
"""Distances at the ends of the color map of a depth video."""


class FileMark(Record, frozen=True, kw_only=True):
    """Size and digest of a file when it was written."""

    bytes: Count
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileMark":
        """Return the size and digest of a file."""
        return cls(bytes=path.stat().st_size, sha256=file_digest(path))

    def damage(self, path: Path) -> str | None:
        """Return how a file differs from what was written; None if it does not."""
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size != self.bytes:
            return f"is damaged: it has {size} bytes, not {self.bytes}"
        return None if file_digest(path) == self.sha256 else "is damaged: its content differs from what was written"


class VideoSettings(Record, frozen=True, kw_only=True):
    """Effective options that determine the frames of a video, apart from its camera path."""

    appearance: tuple[str, ...]
    """Names of appearance presets, in the order in which the video passes through them."""
    codes_of: str | None
    """The segment of the blocks' own codes, if no preset is used."""
    mix: Number | None
    exposure: Number | None
    block: str | None
    hide: tuple[str, ...]
    max_blocks: Count
    weighting: Weighting
    power: Number
    selection_radius: Number
    visibility_threshold: Number
    sharp: bool = False
    """Whether footprints may be finer than those of training; missing in records of earlier versions."""

    def presets(self, presets: Sequence[AppearancePreset]) -> dict[str, AppearancePreset]:
        """Return the presets by name."""
        return dict(zip(self.appearance, presets, strict=True))

    def describe(self, city: City) -> City:
        """Return a city with these settings, without the blocks that are left out."""
        kept = [block for block in city.blocks if self.block in (None, block.name) and block.name not in self.hide]
        settings = {key: getattr(self, key) for key in RENDERING_KEYS}
        return with_rendering(replace(city, blocks=tuple(kept)), **settings)

    def difference(self, other: "VideoSettings") -> str | None:
        """Return the first setting that differs, with both values; None if none does."""
        for name in self.__struct_fields__:
            old, new = getattr(self, name), getattr(other, name)
            if old != new:
                return f"{name} {json.dumps(old)}, not {json.dumps(new)}"
        return None


class PathOptions(Record, frozen=True, kw_only=True):
    """Options that determine a camera path."""

    given: bool
    """The path comes from a file, so it does not change with the run."""
    keyframes: tuple[str, ...] = ()
    segment: str | None = None
    frames: Count | None = None
    seconds: Number | None = None
    fps: Number | None = None
    width: Count | None = None
    height: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """How one frame was rendered."""

    frame: int
    seconds: float
    """Rendering time."""
    blocks: Mapping[str, float]
    """Mean weight of each block."""
    inputs: Inputs
    """All that determines the frame apart from the settings."""
    files: Mapping[str, FileMark]
    """Files of the frame by layer."""

    def only(self, layers: Collection[str]) -> "FrameRecord":
        """Return the record without the files of other layers."""
        return replace(self, files={layer: mark for layer, mark in self.files.items() if layer in layers})

    def to_json(self) -> dict[str, Any]:
        """Return a line of the log, which includes the inputs."""
        return to_builtins(_row(self, self.inputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Statistics of a finished video."""

    width: int
    height: int
    fps: float
    seconds: float
    """Rendering time of all frames."""
    pixels_per_second: int
    mean_frame_difference: float
    """Mean absolute difference of display values, 0..1, between consecutive frames."""
    max_temporal_jump: float
    """The largest difference, as a multiple of the typical difference around it."""
    frame_differences: tuple[float, ...]
    """Difference between each frame and the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRecord:
    """How a finished or unfinished video was rendered."""

    settings: VideoSettings
    path: PathOptions
    frames: Mapping[int, FrameRecord] = field(default_factory=dict)
    depth_range: DepthRange | None = None
    videos: Mapping[str, FileMark] = field(default_factory=dict)
    """Video files by layer; empty while the video is unfinished."""
    statistics: Statistics | None = None
    """None while the video is unfinished."""

    @property
    def inputs(self) -> Inputs:
        """The inputs of all frames together."""
        return merge_inputs([row.inputs for _, row in sorted(self.frames.items())])


class _Row(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A frame in the record, which lists the inputs of all frames once, or in the log, where each has its own."""

    frame: Count
    seconds: Number
    blocks: Mapping[str, Number]
    considered: tuple[str, ...]
    files: Mapping[str, FileMark]
    inputs: Inputs | None = None


class _RenderRecord(Record, frozen=True, kw_only=True, tag_field="format", tag=RENDER_FORMAT):
    settings: VideoSettings
    path: PathOptions
    width: PositiveCount
    height: PositiveCount
    fps: Number
    seconds: Number
    pixels_per_second: Count
    mean_frame_difference: Number
    max_temporal_jump: Number
    frame_differences: tuple[Number, ...]
    depth_range: DepthRange | None
    videos: Mapping[str, FileMark]
    inputs: Inputs
    frames: list[_Row]


class _LogHeader(Record, frozen=True, kw_only=True, tag_field="format", tag=RENDER_FORMAT):
    settings: VideoSettings
    path: PathOptions


class _LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """What distinguishes the lines of a log: a frame, or a depth range."""

    frame: Count | None = None
    depth_range: DepthRange | None = None


_FILE = JsonFile(content=_RenderRecord, what="render", remedy=OTHER_FOLDER_HINT)
_HEADER = JsonFile(content=_LogHeader, what="log", remedy=OTHER_FOLDER_HINT)
_LINE = JsonFile(content=_LogLine, what="log", remedy=OTHER_FOLDER_HINT)
_ROW = JsonFile(content=_Row, what="log", remedy=OTHER_FOLDER_HINT)


def write_record(record: RenderRecord, path: Path) -> None:
    """Write the `render.json` of a finished video atomically."""
    assert record.statistics is not None
    document = _RenderRecord(
        settings=record.settings,
        path=record.path,
        **{item.name: getattr(record.statistics, item.name) for item in fields(Statistics)},
        depth_range=record.depth_range,
        videos=record.videos,
        inputs=record.inputs,
        frames=[_row(row) for _, row in sorted(record.frames.items())],
    )
    _FILE.write(document, path)


def read_record(path: Path) -> RenderRecord:
    """Read a `render.json`.

    Raises:
        RunError: The file is missing, broken or of another format.
    """
    document = _FILE.read(path)
    if len(document.frame_differences) != max(0, len(document.frames) - 1):
        found, frames = len(document.frame_differences), len(document.frames)
        raise RunError(f"{path}: frame_differences has {found} numbers for {frames} frames; {OTHER_FOLDER_HINT}")
    rows = []
    for i, row in enumerate(document.frames):
        if unknown := [name for name in row.considered if name not in document.inputs.blocks]:
            where = f"{path}: frames[{i}].considered"
            name = format_value(unknown[0])
            raise RunError(f"{where} names {name}, which is not in inputs.blocks; correct it, or {OTHER_FOLDER_HINT}")
        rows.append(_frame(row, document.inputs.of(row.considered)))
    return RenderRecord(
        settings=document.settings,
        path=document.path,
        frames={row.frame: row for row in rows},
        depth_range=document.depth_range,
        videos=document.videos,
        statistics=Statistics(**{item.name: getattr(document, item.name) for item in fields(Statistics)}),
    )


def _row(frame: FrameRecord, inputs: Inputs | None = None) -> _Row:
    considered = tuple(frame.inputs.blocks)
    return _Row(
        frame=frame.frame,
        seconds=frame.seconds,
        blocks=frame.blocks,
        considered=considered,
        files=frame.files,
        inputs=inputs,
    )


def _frame(row: _Row, inputs: Inputs) -> FrameRecord:
    return FrameRecord(frame=row.frame, seconds=row.seconds, blocks=row.blocks, inputs=inputs, files=row.files)


def start_log(folder: RunFolder, name: str, record: RenderRecord) -> None:
    """Start the log of a new video."""
    header = to_builtins(_LogHeader(settings=record.settings, path=record.path))
    write_atomic(folder.render_log(name), json.dumps(header) + "\n")


def add_to_log(folder: RunFolder, name: str, row: Mapping[str, Any]) -> None:
    """Append a frame or the depth range to the log."""
    with folder.render_log(name).open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")


def read_progress(folder: RunFolder, name: str) -> RenderRecord | None:
    """Return the record of a video, updated by the log of what was rendered since; None if neither exists.

    Raises:
        RunError: A file is broken or of another format.
    """
    path, lines = folder.render_summary(name), read_lines(folder.render_log(name))
    if path.exists():
        return _apply_log(read_record(path), lines, folder.render_log(name))
    header = next(lines, None)
    if header is None:
        return None
    start = _HEADER.decode(header, str(folder.render_log(name)))
    return _apply_log(RenderRecord(settings=start.settings, path=start.path), lines, folder.render_log(name))


def _apply_log(record: RenderRecord, lines: Iterator[bytes], path: Path) -> RenderRecord:
    rows, depth_range = dict(record.frames), record.depth_range
    for data in lines:
        line = _LINE.decode(data, str(path))
        if line.frame is not None:
            row = _ROW.decode(data, str(path))
            if row.inputs is None:
                raise RunError(f"{path}: inputs is missing; add it, or {OTHER_FOLDER_HINT}")
            rows[row.frame] = _frame(row, row.inputs)
        elif line.depth_range is not None:
            depth_range = line.depth_range
    return replace(record, frames=rows, depth_range=depth_range)
