"""Record of how a video was rendered, frame by frame (`render.json`; `log.jsonl` while it is unfinished)."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from blocknerf.capture.json_reader import JsonReader
from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.manifest import RENDERING_KEYS, WEIGHTINGS, City, Weighting, with_rendering
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError, one_of
from blocknerf.files import check_format_version, format_json, read_json, write_atomic
from blocknerf.values import format_value
from pipelines.staleness import Inputs, file_digest, merge_inputs
from pipelines.training_log import read_lines

RENDER_FORMAT = "blocknerf.render/3"
OTHER_FOLDER_HINT = "choose another --name, or remove the folder"

Value = TypeVar("Value")
DepthRange = tuple[float, float]
"""Distances at the ends of the color map of a depth video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """Size and digest of a file when it was written."""

    bytes: int
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


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings:
    """Effective options that determine the frames of a video, apart from its camera path."""

    appearance: tuple[str, ...]
    """Names of appearance presets, in the order in which the video passes through them."""
    codes_of: str | None
    """The segment of the blocks' own codes, if no preset is used."""
    mix: float | None
    exposure: float | None
    block: str | None
    hide: tuple[str, ...]
    max_blocks: int
    weighting: Weighting
    power: float
    selection_radius: float
    visibility_threshold: float

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
        for setting in fields(self):
            old, new = getattr(self, setting.name), getattr(other, setting.name)
            if old != new:
                return f"{setting.name} {json.dumps(old)}, not {json.dumps(new)}"
        return None

    @classmethod
    def read(cls, reader: JsonReader) -> "VideoSettings":
        """Read them from a record."""
        return cls(
            appearance=reader.texts("appearance"),
            codes_of=_optional(reader, "codes_of", reader.text),
            mix=_optional(reader, "mix", reader.number),
            exposure=_optional(reader, "exposure", reader.number),
            block=_optional(reader, "block", reader.text),
            hide=reader.texts("hide"),
            max_blocks=reader.int_("max_blocks"),
            weighting=one_of(reader.text("weighting"), WEIGHTINGS, reader.location("weighting")),
            power=reader.number("power"),
            selection_radius=reader.number("selection_radius"),
            visibility_threshold=reader.number("visibility_threshold"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOptions:
    """Options that determine a camera path."""

    given: bool
    """The path comes from a file, so it does not change with the run."""
    keyframes: tuple[str, ...] = ()
    segment: str | None = None
    frames: int | None = None
    seconds: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None

    @classmethod
    def read(cls, reader: JsonReader) -> "PathOptions":
        """Read them from a record."""
        return cls(
            given=reader.bool_("given"),
            keyframes=reader.texts("keyframes"),
            segment=_optional(reader, "segment", reader.text),
            frames=_optional(reader, "frames", reader.int_),
            seconds=_optional(reader, "seconds", reader.number),
            fps=_optional(reader, "fps", reader.number),
            width=_optional(reader, "width", reader.int_),
            height=_optional(reader, "height", reader.int_),
        )


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
        return self.to_row() | {"inputs": self.inputs.to_json()}

    def to_row(self) -> dict[str, Any]:
        """Return a row of the record, which lists the inputs of all frames once."""
        return {
            "frame": self.frame,
            "seconds": self.seconds,
            "blocks": dict(self.blocks),
            "considered": list(self.inputs.blocks),
            "files": {layer: asdict(mark) for layer, mark in self.files.items()},
        }

    @classmethod
    def read(cls, reader: JsonReader, inputs: Inputs) -> "FrameRecord":
        """Read a line of the log or a row of the record."""
        blocks = reader.inner("blocks")
        return cls(
            frame=reader.int_("frame"),
            seconds=reader.number("seconds"),
            blocks={name: blocks.number(name) for name in blocks},
            inputs=inputs,
            files=_read_marks(reader.inner("files")),
        )


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


def write_record(record: RenderRecord, path: Path) -> None:
    """Write the `render.json` of a finished video atomically."""
    document = {
        "format": RENDER_FORMAT,
        "settings": asdict(record.settings),
        "path": asdict(record.path),
        **({} if record.statistics is None else asdict(record.statistics)),
        "depth_range": record.depth_range,
        "videos": {layer: asdict(mark) for layer, mark in record.videos.items()},
        "inputs": record.inputs.to_json(),
        "frames": [row.to_row() for _, row in sorted(record.frames.items())],
    }
    write_atomic(path, format_json(document))


def read_record(path: Path) -> RenderRecord:
    """Read a `render.json`.

    Raises:
        RunError: The file is missing, broken or of another format.
    """
    document = read_json(path, "render")
    check_format_version(document.get("format"), RENDER_FORMAT, path, OTHER_FOLDER_HINT)
    reader = _reader(document, path)
    inputs = Inputs.read(reader.inner("inputs"))
    rows = [FrameRecord.read(row, _frame_inputs(row, inputs)) for row in reader.objects("frames")]
    return RenderRecord(
        settings=VideoSettings.read(reader.inner("settings")),
        path=PathOptions.read(reader.inner("path")),
        frames={row.frame: row for row in rows},
        depth_range=_read_range(reader) if reader.optional("depth_range") else None,
        videos=_read_marks(reader.inner("videos")),
        statistics=Statistics(
            width=reader.int_("width", least=1),
            height=reader.int_("height", least=1),
            fps=reader.number("fps"),
            seconds=reader.number("seconds"),
            pixels_per_second=reader.int_("pixels_per_second"),
            mean_frame_difference=reader.number("mean_frame_difference"),
            max_temporal_jump=reader.number("max_temporal_jump"),
            frame_differences=reader.numbers("frame_differences", max(0, len(rows) - 1)),
        ),
    )


def _frame_inputs(row: JsonReader, inputs: Inputs) -> Inputs:
    """Return the inputs of one frame: those of the blocks that were considered for it."""
    names = row.texts("considered")
    unknown = next((name for name in names if name not in inputs.blocks), None)
    if unknown is not None:
        raise row.error(
            f"{row.location('considered')} names {format_value(unknown)}, which is not in inputs.blocks; "
            f"{row.hint('correct it')}"
        )
    return inputs.of(names)


def start_log(folder: RunFolder, name: str, record: RenderRecord) -> None:
    """Start the log of a new video."""
    line = {"format": RENDER_FORMAT, "settings": asdict(record.settings), "path": asdict(record.path)}
    write_atomic(folder.render_log(name), json.dumps(line) + "\n")


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
    check_format_version(header.get("format"), RENDER_FORMAT, folder.render_log(name), OTHER_FOLDER_HINT)
    reader = _reader(header, folder.render_log(name))
    settings, path_options = VideoSettings.read(reader.inner("settings")), PathOptions.read(reader.inner("path"))
    return _apply_log(RenderRecord(settings=settings, path=path_options), lines, folder.render_log(name))


def _apply_log(record: RenderRecord, lines: Iterator[Mapping[str, Any]], path: Path) -> RenderRecord:
    rows, depth_range = dict(record.frames), record.depth_range
    for line in lines:
        reader = _reader(line, path)
        if "frame" in reader:
            row = FrameRecord.read(reader, Inputs.read(reader.inner("inputs")))
            rows[row.frame] = row
        elif "depth_range" in reader:
            depth_range = _read_range(reader)
    return replace(record, frames=rows, depth_range=depth_range)


def _reader(data: object, path: Path) -> JsonReader:
    return JsonReader(data, str(path), remedy=OTHER_FOLDER_HINT, error=RunError)


def _read_marks(reader: JsonReader) -> dict[str, FileMark]:
    marks = {layer: reader.inner(layer) for layer in reader}
    return {layer: FileMark(bytes=mark.int_("bytes"), sha256=mark.text("sha256")) for layer, mark in marks.items()}


def _read_range(reader: JsonReader) -> DepthRange:
    near, far = reader.numbers("depth_range", 2)
    return near, far


def _optional(reader: JsonReader, key: str, read: Callable[[str], Value]) -> Value | None:
    return read(key) if reader.optional(key) else None
