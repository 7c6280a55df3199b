"""How a video was made, frame by frame (`render.json`, and `log.jsonl` while it is unfinished)."""

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
from pipelines.staleness import Inputs, file_digest, join_clauses
from pipelines.training_log import read_lines

RENDER_FORMAT = "blocknerf.render/3"
OTHER_FOLDER_HINT = "choose another --name, or remove the folder"

Value = TypeVar("Value")
DepthRange = tuple[float, float]
"""Distances that the colors of a depth video span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """What a file held when it was written."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileMark":
        """That of a file."""
        return cls(bytes=path.stat().st_size, sha256=file_digest(path))

    def damage(self, path: Path) -> str | None:
        """What is wrong with a file that should be as it was; None where nothing is."""
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size != self.bytes:
            return f"is damaged: it has {size} bytes and not {self.bytes}"
        return None if file_digest(path) == self.sha256 else "is damaged: its content is not what was written"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings:
    """Options that decide the frames of a video besides its camera path, as they are in force."""

    appearance: tuple[str, ...]
    """Names of appearance presets, in the order in which the video passes through them."""
    codes_of: str | None
    """The segment whose own codes blocks show where there is no preset."""
    mix: float | None
    exposure: float | None
    block: str | None
    hide: tuple[str, ...]
    max_blocks: int
    weighting: Weighting
    power: float
    selection_radius: float
    visibility_threshold: float

    def presets(self, looks: Sequence[AppearancePreset]) -> dict[str, AppearancePreset]:
        """The presets that are shown, by name."""
        return dict(zip(self.appearance, looks, strict=True))

    def describe(self, city: City) -> City:
        """A run's city with these settings, and without the blocks that are left out."""
        kept = [block for block in city.blocks if self.block in (None, block.name) and block.name not in self.hide]
        settings = {key: getattr(self, key) for key in RENDERING_KEYS}
        return with_rendering(replace(city, blocks=tuple(kept)), **settings)

    def difference(self, other: "VideoSettings") -> str | None:
        """The first setting that is another there, with both values; None where none is."""
        for each in fields(self):
            was, now = getattr(self, each.name), getattr(other, each.name)
            if was != now:
                return f"{each.name} {json.dumps(was)}, not {json.dumps(now)}"
        return None

    @classmethod
    def read(cls, entry: JsonReader) -> "VideoSettings":
        """What a record says."""
        return cls(
            appearance=entry.texts("appearance"),
            codes_of=_optional(entry, "codes_of", entry.text),
            mix=_optional(entry, "mix", entry.number),
            exposure=_optional(entry, "exposure", entry.number),
            block=_optional(entry, "block", entry.text),
            hide=entry.texts("hide"),
            max_blocks=entry.int_("max_blocks"),
            weighting=one_of(entry.text("weighting"), WEIGHTINGS, entry.location("weighting")),
            power=entry.number("power"),
            selection_radius=entry.number("selection_radius"),
            visibility_threshold=entry.number("visibility_threshold"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOptions:
    """Options that a camera path was derived from."""

    given: bool
    """It is that of a file, and does not change with the run."""
    keyframes: tuple[str, ...] = ()
    segment: str | None = None
    frames: int | None = None
    seconds: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None

    @classmethod
    def read(cls, entry: JsonReader) -> "PathOptions":
        """What a record says."""
        return cls(
            given=entry.bool_("given"),
            keyframes=entry.texts("keyframes"),
            segment=_optional(entry, "segment", entry.text),
            frames=_optional(entry, "frames", entry.int_),
            seconds=_optional(entry, "seconds", entry.number),
            fps=_optional(entry, "fps", entry.number),
            width=_optional(entry, "width", entry.int_),
            height=_optional(entry, "height", entry.int_),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecord:
    """How one frame was made."""

    frame: int
    seconds: float
    """That it took."""
    blocks: Mapping[str, float]
    """Weight of each block in it."""
    inputs: Inputs
    """All that decided it besides the settings."""
    files: Mapping[str, FileMark]
    """Its images, by layer."""

    def only(self, layers: Collection[str]) -> "FrameRecord":
        """Without the images of other layers."""
        return replace(self, files={layer: mark for layer, mark in self.files.items() if layer in layers})

    def to_json(self) -> dict[str, Any]:
        """A line of the log, which stands alone."""
        return self.to_row() | {"inputs": self.inputs.to_json()}

    def to_row(self) -> dict[str, Any]:
        """A row of the record, which holds the inputs of all frames together."""
        return {
            "frame": self.frame,
            "seconds": self.seconds,
            "blocks": dict(self.blocks),
            "considered": list(self.inputs.blocks),
            "files": {layer: asdict(mark) for layer, mark in self.files.items()},
        }

    @classmethod
    def read(cls, entry: JsonReader, inputs: Inputs) -> "FrameRecord":
        """A line or a row, read back."""
        blocks = entry.inner("blocks")
        return cls(
            frame=entry.int_("frame"),
            seconds=entry.number("seconds"),
            blocks={name: blocks.number(name) for name in blocks},
            inputs=inputs,
            files=_read_marks(entry.inner("files")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Figures of a finished video."""

    width: int
    height: int
    fps: float
    seconds: float
    """That all its frames took to render."""
    pixels_per_second: int
    mean_frame_difference: float
    """Of display values, 0..1, from one frame to the next."""
    max_temporal_jump: float
    """The largest such change, as a multiple of the usual one around it."""
    frame_differences: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRecord:
    """How a video was made, as far as it is."""

    settings: VideoSettings
    path: PathOptions
    frames: Mapping[int, FrameRecord] = field(default_factory=dict)
    depth_range: DepthRange | None = None
    videos: Mapping[str, FileMark] = field(default_factory=dict)
    """By layer; none while the video is unfinished."""
    statistics: Statistics | None = None
    """None while the video is unfinished."""

    @property
    def inputs(self) -> Inputs:
        """Those of all frames together."""
        return join_clauses([row.inputs for _, row in sorted(self.frames.items())])


def write_record(record: RenderRecord, path: Path) -> None:
    """Write the `render.json` of a finished video, whole or not at all."""
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
        RunError: it is missing, broken or of another format.
    """
    document = read_json(path, "render")
    check_format_version(document.get("format"), RENDER_FORMAT, path, OTHER_FOLDER_HINT)
    entry = _entry(document, path)
    inputs = Inputs.read(entry.inner("inputs"))
    rows = [FrameRecord.read(row, inputs.of(row.texts("considered"))) for row in entry.objects("frames")]
    return RenderRecord(
        settings=VideoSettings.read(entry.inner("settings")),
        path=PathOptions.read(entry.inner("path")),
        frames={row.frame: row for row in rows},
        depth_range=_read_range(entry) if entry.optional("depth_range") else None,
        videos=_read_marks(entry.inner("videos")),
        statistics=Statistics(
            width=entry.int_("width", least=1),
            height=entry.int_("height", least=1),
            fps=entry.number("fps"),
            seconds=entry.number("seconds"),
            pixels_per_second=entry.int_("pixels_per_second"),
            mean_frame_difference=entry.number("mean_frame_difference"),
            max_temporal_jump=entry.number("largest_jump"),
            frame_differences=entry.numbers("frame_differences", max(0, len(rows) - 1)),
        ),
    )


def begin_log(folder: RunFolder, name: str, begun: RenderRecord) -> None:
    """Begin the log of a new video."""
    line = {"format": RENDER_FORMAT, "settings": asdict(begun.settings), "path": asdict(begun.path)}
    write_atomic(folder.render_log(name), json.dumps(line) + "\n")


def add_to_log(folder: RunFolder, name: str, row: Mapping[str, Any]) -> None:
    """Add a line: a frame, or the depth range."""
    with folder.render_log(name).open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")


def read_progress(folder: RunFolder, name: str) -> RenderRecord | None:
    """What is there of a video: its record, and over it the log of what was rendered since; None where nothing is.

    Raises:
        RunError: either is broken or of another format.
    """
    path, lines = folder.render_summary(name), read_lines(folder.render_log(name))
    if path.exists():
        return _followed(read_record(path), lines, folder.render_log(name))
    head = next(lines, None)
    if head is None:
        return None
    check_format_version(head.get("format"), RENDER_FORMAT, folder.render_log(name), OTHER_FOLDER_HINT)
    entry = _entry(head, folder.render_log(name))
    settings, asked = VideoSettings.read(entry.inner("settings")), PathOptions.read(entry.inner("path"))
    return _followed(RenderRecord(settings=settings, path=asked), lines, folder.render_log(name))


def _followed(record: RenderRecord, lines: Iterator[Mapping[str, Any]], path: Path) -> RenderRecord:
    rows, depth_range = dict(record.frames), record.depth_range
    for line in lines:
        entry = _entry(line, path)
        if "frame" in entry:
            row = FrameRecord.read(entry, Inputs.read(entry.inner("inputs")))
            rows[row.frame] = row
        elif "depth_range" in entry:
            depth_range = _read_range(entry)
    return replace(record, frames=rows, depth_range=depth_range)


def _entry(data: object, path: Path) -> JsonReader:
    return JsonReader(data, str(path), remedy=OTHER_FOLDER_HINT, error=RunError)


def _read_marks(entry: JsonReader) -> dict[str, FileMark]:
    marks = {layer: entry.inner(layer) for layer in entry}
    return {layer: FileMark(bytes=mark.int_("bytes"), sha256=mark.text("sha256")) for layer, mark in marks.items()}


def _read_range(entry: JsonReader) -> DepthRange:
    near, far = entry.numbers("depth_range", 2)
    return near, far


def _optional(entry: JsonReader, key: str, read: Callable[[str], Value]) -> Value | None:
    return read(key) if entry.optional(key) else None
