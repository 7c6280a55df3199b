"""The report of a run as one HTML page: map, fly-through, metrics, renderings next to images, training curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from blocknerf import __version__
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.capture.pose_averaging import RESIDUAL_CAPTION, RESIDUAL_HEADER, residual_rows
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.city.extras import Extras, TrainingRecord
from blocknerf.city.manifest import City, check_file_name, read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.colormaps import block_color
from blocknerf.files import write_atomic
from blocknerf.images import image_size
from blocknerf.partitioning.report import read_coverage
from pipelines.charts import Series, line_chart, stacked_strip
from pipelines.console import format_duration, log
from pipelines.evaluation_file import (
    PROTOCOLS,
    Evaluation,
    ImageMetrics,
    by_psnr,
    marked_images,
    places,
    read_evaluation,
    used_columns,
)
from pipelines.render_record import RenderRecord, read_record
from pipelines.report_page import counted, embedded_image, embedded_video, number, render_page
from pipelines.staleness import changes
from pipelines.training_log import LogLine, read_log

IMAGE_KINDS = {
    "photo": "Image. The half right of the line is evaluated.",
    "render": "Rendering.",
    "error": "Error: black is 0, white is 0.25 or more.",
    "depth": "Depth: red is near, blue is far.",
}
LAYERS = {"depth": "Depth: red is near, blue is far.", "blocks": "Blocks that each frame is blended from, by color."}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoLayer:
    """One of the videos along a path."""

    caption: str
    label: str
    source: str | None
    damage: str | None
    """Why it is not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A fly-through."""

    name: str
    stale: Sequence[str]
    frames: VideoLayer
    others: Sequence[VideoLayer]
    strip: str
    """Weights of the blocks along the video, as SVG."""
    colors: Mapping[str, str]
    """Color of each block in it."""
    stability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An image next to its rendering."""

    name: str
    title: str
    line: str
    wide: bool
    images: Sequence[tuple[str, str, str]]
    """Kind, source and caption of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCharts:
    """Curves and figures of the training."""

    loss: str
    psnr: str
    colors: Mapping[str, str]
    rows: Sequence[Sequence[str]]
    """Steps, images, time, rays per second and PSNR of each block."""


def report(run: Path, *, render: str = "flythrough") -> Path:
    """Write the report of a run as one HTML page.

    The page is self-contained and loads nothing from a server. Parts that do not exist yet are left out, with the
    command that makes them.

    Args:
        run: Run folder, partitioned.
        render: Video to show, by its folder under renders/.

    Returns:
        The path of report.html.

    Raises:
        RunError: A file of the run is missing or broken.
    """
    check_file_name(render, "--render")
    folder = RunFolder(run)
    capture, city = read_capture(folder.capture), read_city(folder.city)
    scores = read_evaluation(folder.evaluation) if folder.evaluation.exists() else None
    extras = Extras.read(folder, city, capture)
    records = extras.records
    for fault in extras.faults:
        log(f"warning: ignored: {fault}")
    stale = () if scores is None else changes(folder, scores.inputs)
    for clause in stale:
        log(f"warning: {folder.evaluation}: stale: {clause}; run 'blocknerf evaluate' again")
    page = render_page(
        run=folder.path.name,
        title=f"{capture.image_dir.name or 'capture'}: {counted(len(city.blocks), 'block')}",
        lead=_lead(capture, city, None if stale else scores),
        cards=_cards(capture, city, None if stale else scores, records),
        faults=_faults(folder, capture, extras.faults),
        video=_video(folder, city, render),
        video_name=render,
        comparisons=_comparisons(folder, scores),
        scores=scores,
        stale=stale,
        protocols=PROTOCOLS,
        marked=marked_images,
        columns=[] if scores is None else used_columns(scores.mean),
        map=embedded_image(folder.map, lossless=True) if folder.map.exists() else None,
        coverage=read_coverage(folder.coverage) if folder.coverage.exists() else None,
        residual_header=RESIDUAL_HEADER,
        residual_caption=RESIDUAL_CAPTION,
        residuals=_residuals(folder, capture),
        training=_training(folder, city, records),
        facts=_provenance(capture, city, records),
    )
    write_atomic(folder.report, page)
    log(f"{folder.report}: {folder.report.stat().st_size / 1e6:.1f} MB, opens in any browser")
    return folder.report


def _faults(folder: RunFolder, capture: Capture, faults: Sequence[str]) -> list[str]:
    """Return the reason why each file is ignored, with its path relative to the run or the capture."""
    roots = {f"{root}/" for path in (folder.path, capture.image_dir) for root in (path.absolute(), path)}
    messages = list(faults)
    for root in sorted(roots, key=len, reverse=True):
        messages = [message.replace(root, "") for message in messages]
    return messages


def _lead(capture: Capture, city: City, scores: Evaluation | None) -> str:
    held_out = f", {scores.protocol.test_frames} held out, {len(scores.frames)} of these evaluated" if scores else ""
    size = f"{2 * capture.extent:.3g} {'m' if capture.is_metric else 'units'}"
    return f"{len(capture)} images over {size}{held_out}; preset {city.preset}."


def _cards(
    capture: Capture, city: City, scores: Evaluation | None, records: Mapping[str, TrainingRecord]
) -> list[tuple[str, str]]:
    """Return the facts at the top of the page, each with its label."""
    seconds = sum(record.seconds for record in records.values())
    titles = {"psnr": "PSNR, right halves", "ssim": "SSIM", "lpips": "LPIPS"}
    columns = [] if scores is None else used_columns(scores.mean)
    return [
        *((titles[column.key], column.text(scores.mean)) for column in columns if scores and column.key in titles),
        ("blocks", str(len(city.blocks))),
        ("images", str(len(capture))),
        *([("training, all blocks", format_duration(seconds))] if seconds else []),
    ]


def _video(folder: RunFolder, city: City, name: str) -> Video | None:
    """Return a video with its layers, and the weights of the blocks along it; None if it is not rendered."""
    if not folder.render_summary(name).exists():
        return None
    record = read_record(folder.render_summary(name))
    stale = changes(folder, record.inputs)
    for clause in stale:
        log(f"warning: {folder.render_folder(name)}: stale: {clause}; run 'blocknerf render' again")
    statistics, colors = record.statistics, _colors(city)
    assert statistics is not None  # A finished video has statistics.
    weights = [row.blocks for _, row in sorted(record.frames.items())]
    used = {block: color for block, color in colors.items() if any(block in frame for frame in weights)}
    size = f"{statistics.width}x{statistics.height}"
    caption = f"{len(weights)} frames of {size} at {statistics.fps:g} fps."
    return Video(
        name=name,
        stale=stale,
        frames=_layer(folder, record, name, "frames", caption),
        others=[_layer(folder, record, name, layer, LAYERS[layer]) for layer in LAYERS if layer in record.videos],
        strip=stacked_strip(weights, used),
        colors=used,
        stability=f"Temporal stability: consecutive frames differ by {statistics.mean_frame_difference:.4f} on average "
        f"(display values 0 to 1); the largest jump is {statistics.max_temporal_jump:.2f} times the typical difference "
        f"around it. Rendered at {statistics.pixels_per_second:,} pixels/s.",
    )


def _layer(folder: RunFolder, record: RenderRecord, name: str, layer: str, caption: str) -> VideoLayer:
    """Return a layer of a video, or a warning if its file is damaged."""
    path, message = folder.video(name, layer), None
    if damage := record.videos[layer].damage(path):
        message = f"{path.name} {damage}; run 'blocknerf render --name {name}' to write it again from its frames"
        log(f"warning: {path.parent}: {message}")
    source = None if message else embedded_video(path)
    return VideoLayer(caption=caption, label=f"video {name}: {layer}", damage=message, source=source)


def _comparisons(folder: RunFolder, scores: Evaluation | None) -> list[Comparison]:
    """Return the stored images, best first, with their place among all."""
    ranked = [] if scores is None else by_psnr(scores.frames)
    return [_comparison(folder, frame, i, len(ranked)) for i, frame in enumerate(ranked) if frame.images]


def _comparison(folder: RunFolder, frame: ImageMetrics, place: int, count: int) -> Comparison:
    blocks = ", ".join(f"{name} {weight:.0%}" for name, weight in frame.blocks.items() if weight >= 0.005)
    paths = {kind: folder.evaluation_images / f"{frame.images}_{kind}.png" for kind in IMAGE_KINDS}
    width, height = image_size(paths["photo"])
    rank = places(count).get(place, f"number {place + 1}")
    return Comparison(
        name=frame.name,
        title=f"{rank.capitalize()} of {counted(count, 'image')}: {frame.name}",
        line=f"PSNR {number(frame.metrics.psnr, 2)} dB, SSIM {number(frame.metrics.ssim, 3)}; blocks: {blocks}",
        wide=width > 2 * height,
        images=[(kind, embedded_image(paths[kind]), caption) for kind, caption in IMAGE_KINDS.items()],
    )


def _residuals(folder: RunFolder, capture: Capture) -> list[tuple[str, ...]]:
    return residual_rows(read_pose_average(folder.poses), metric=capture.is_metric) if folder.poses.exists() else []


def _training(folder: RunFolder, city: City, records: Mapping[str, TrainingRecord]) -> TrainingCharts | None:
    digests = {block.name: records[block.name].log if block.name in records else None for block in city.blocks}
    logs = {name: lines for name, digest in digests.items() if (lines := read_log(folder.log(name), digest))}
    if not logs:
        return None
    colors = {name: color for name, color in _colors(city).items() if name in logs}
    return TrainingCharts(
        loss=line_chart(_series(logs, colors, "loss"), x_label="step", y_label="loss", log=True),
        psnr=line_chart(_series(logs, colors, "psnr"), x_label="step", y_label="PSNR of batches (dB)"),
        colors=colors,
        rows=[_training_row(name, lines, records.get(name, TrainingRecord())) for name, lines in logs.items()],
    )


def _series(logs: Mapping[str, Sequence[LogLine]], colors: Mapping[str, str], key: str) -> list[Series]:
    return [
        Series(name=name, color=colors[name], x=[line.step for line in lines], y=[getattr(line, key) for line in lines])
        for name, lines in logs.items()
    ]


def _training_row(name: str, lines: Sequence[LogLine], record: TrainingRecord) -> tuple[str, ...]:
    tail = lines[-max(1, len(lines) // 10) :]
    return (
        name,
        f"{lines[-1].step:,}",
        "" if record.frames is None else str(record.frames),
        format_duration(lines[-1].seconds),
        f"{mean(line.rays_per_second for line in lines):,.0f}",
        f"{mean(line.psnr for line in tail):.2f}",
    )


def _provenance(capture: Capture, city: City, records: Mapping[str, TrainingRecord]) -> list[tuple[str, str]]:
    versions = next((record.versions for record in records.values() if record.versions), {})
    devices = sorted({record.device for record in records.values() if record.device is not None})
    return [
        ("Source", capture.source),
        ("Unit", "meters" if capture.is_metric else "arbitrary"),
        ("Segments", ", ".join(capture.segments)),
        ("Blending", f"{city.weighting}, power {city.power:g}, within {city.selection_radius:g} radii"),
        ("Culling", f"blocks below a mean predicted visibility of {city.visibility_threshold:g}"),
        ("Trained on", ", ".join(devices) or "-"),
        ("Versions", ", ".join(f"{key} {value}" for key, value in versions.items()) or f"blocknerf {__version__}"),
        ("City digest", city.digest),
    ]


def _colors(city: City) -> dict[str, str]:
    return {block.name: "#{:02x}{:02x}{:02x}".format(*block_color(i)) for i, block in enumerate(city.blocks)}
