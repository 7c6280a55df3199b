"""The report of a run as one HTML page: map, fly-through, metrics, renderings next to images, training curves."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean

from blocknerf import __version__
from blocknerf.capture.capture import Capture, read_capture
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.city.extras import Extras, TrainingRecord
from blocknerf.city.manifest import City, check_file_name, read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.colormaps import block_color
from blocknerf.files import write_atomic
from blocknerf.images import image_size
from blocknerf.partitioning.report import read_coverage
from pipelines.charts import Series, legend, line_chart, stacked_strip
from pipelines.console import format_duration, log
from pipelines.evaluation_file import Evaluation, ImageMetrics, read_evaluation
from pipelines.html import Section, definition_list, document, figure, img_tag, paragraph, stat_cards, table, video_tag
from pipelines.pose_residual_table import TABLE_CAPTION, TABLE_HEADER, residual_rows
from pipelines.render_record import RenderRecord, read_record
from pipelines.staleness import changes
from pipelines.training_log import LogLine, read_log

IMAGE_KINDS = {
    "photo": "Image. The half right of the line is evaluated.",
    "render": "Rendering.",
    "error": "Error: black is 0, white is 0.25 or more.",
    "depth": "Depth: red is near, blue is far.",
}
LAYERS = {"depth": "Depth: red is near, blue is far.", "blocks": "Blocks that each frame is blended from, by color."}


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
    sections = [
        Section(title="Ignored files", body=_faults(folder, capture, extras.faults)),
        Section(title="Fly-through", body=_fly_through(folder, city, render)),
        Section(title="Held-out images", body=_stale("evaluate", stale) + _comparisons(folder, scores)),
        Section(title="Metrics", body=_stale("evaluate", stale) + _scores(scores)),
        Section(title="Map", body=_map(folder)),
        Section(title="Poses", body=_poses(folder, capture)),
        Section(title="Training", body=_training(folder, city, records)),
        Section(title="Provenance", body=_provenance(capture, city, records)),
    ]
    title = f"{_capture_name(capture)}: {_counted(len(city.blocks), 'block')}"
    lead = _lead(capture, city, None if stale else scores, records)
    write_atomic(folder.report, document(title, lead, sections))
    log(f"{folder.report}: {folder.report.stat().st_size / 1e6:.1f} MB, opens in any browser")
    return folder.report


def _faults(folder: RunFolder, capture: Capture, faults: Sequence[str]) -> str:
    """Return a warning for each ignored file, with its path relative to the run or the capture."""
    roots = {f"{root}/" for path in (folder.path, capture.image_dir) for root in (path.absolute(), path)}
    messages = faults
    for root in sorted(roots, key=len, reverse=True):
        messages = [message.replace(root, "") for message in messages]
    return "".join(paragraph(message, "warn") for message in messages)


def _capture_name(capture: Capture) -> str:
    """Return the name of the capture's folder."""
    return capture.image_dir.name or "capture"


def _lead(capture: Capture, city: City, scores: Evaluation | None, records: Mapping[str, TrainingRecord]) -> str:
    seconds = sum(record.seconds for record in records.values())
    held_out = f", {scores.protocol.test_frames} held out, {len(scores.frames)} of these evaluated" if scores else ""
    size = f"{2 * capture.extent:.3g} {'m' if capture.is_metric else 'units'}"
    text = f"{len(capture)} images over {size}{held_out}; preset {city.preset}."
    facts = [("blocks", str(len(city.blocks))), ("images", str(len(capture)))]
    if scores is not None and scores.mean.psnr is not None:
        facts = [("PSNR, right halves", _number(scores.mean.psnr, 2)), ("SSIM", _number(scores.mean.ssim, 3)), *facts]
        if scores.mean.lpips is not None:
            facts.insert(2, ("LPIPS", _number(scores.mean.lpips, 3)))
    if seconds:
        facts.append(("training, all blocks", format_duration(seconds)))
    return paragraph(text, "faint") + stat_cards(facts)


def _fly_through(folder: RunFolder, city: City, name: str) -> str:
    if not folder.render_summary(name).exists():
        return paragraph(f"Not rendered yet: blocknerf render {folder.path.name} --name {name}", "warn")
    record = read_record(folder.render_summary(name))
    stale = changes(folder, record.inputs)
    for clause in stale:
        log(f"warning: {folder.render_folder(name)}: stale: {clause}; run 'blocknerf render' again")
    body = _stale(f"render --name {name}", stale)
    statistics, colors = record.statistics, _colors(city)
    assert statistics is not None  # A finished video has statistics.
    weights = [row.blocks for _, row in sorted(record.frames.items())]
    used = {block: color for block, color in colors.items() if any(block in frame for frame in weights)}
    size = f"{statistics.width}x{statistics.height}"
    body += _video(folder, record, name, "frames", f"{len(weights)} frames of {size} at {statistics.fps:g} fps.")
    strip = stacked_strip(weights, used, label="block weights along the video")
    body += figure(strip, "Weights of the blocks along the video.", "ribbon") + legend(used)
    body += paragraph(
        f"Temporal stability: consecutive frames differ by {statistics.mean_frame_difference:.4f} on average (display "
        f"values 0 to 1); the largest jump is {statistics.max_temporal_jump:.2f} times the typical difference around "
        f"it. Rendered at {statistics.pixels_per_second:,} pixels/s.",
        "faint",
    )
    others = "".join(_video(folder, record, name, layer, LAYERS[layer]) for layer in LAYERS if layer in record.videos)
    return body + (f'<div class="pair">{others}</div>' if others else "")


def _video(folder: RunFolder, record: RenderRecord, name: str, layer: str, caption: str) -> str:
    """Return a layer of a video, or a warning if its file is damaged."""
    path = folder.video(name, layer)
    if damage := record.videos[layer].damage(path):
        message = f"{path.name} {damage}; run 'blocknerf render --name {name}' to write it again from its frames"
        log(f"warning: {path.parent}: {message}")
        return paragraph(message, "warn")
    return figure(video_tag(path, f"video {name}: {layer}"), caption)


def _stale(command: str, stale: Sequence[str]) -> str:
    """Return a warning that a product is out of date; nothing if it is not."""
    return paragraph(f"Stale: {'; '.join(stale)}. Run: blocknerf {command}", "warn") if stale else ""


def _comparisons(folder: RunFolder, scores: Evaluation | None) -> str:
    shown = [frame for frame in scores.frames if frame.images] if scores is not None else []
    return "".join(_comparison(folder, frame) for frame in shown)


def _comparison(folder: RunFolder, frame: ImageMetrics) -> str:
    blocks = ", ".join(f"{name} {weight:.0%}" for name, weight in frame.blocks.items() if weight >= 0.005)
    title = f"<h3>{escape(frame.name)}</h3>"
    line = f"PSNR {_number(frame.metrics.psnr, 2)} dB, SSIM {_number(frame.metrics.ssim, 3)}; blocks: {blocks}"
    paths = {kind: folder.evaluation_images / f"{frame.images}_{kind}.png" for kind in IMAGE_KINDS}
    figures = [
        figure(img_tag(paths[kind], f"{kind} of {frame.name}"), caption, "half" if kind == "photo" else "")
        for kind, caption in IMAGE_KINDS.items()
    ]
    width, height = image_size(paths["photo"])
    layout = "four wide-four" if width > 2 * height else "four"
    return title + paragraph(line, "faint") + f'<div class="{layout}">{"".join(figures)}</div>'


def _scores(scores: Evaluation | None) -> str:
    if scores is None:
        return paragraph("Not evaluated yet: blocknerf evaluate", "warn")
    protocol = paragraph(scores.protocol.text, "faint") + paragraph(f"LPIPS: {scores.protocol.lpips}", "faint")
    if not scores.frames:
        return protocol + paragraph("No image was held out, so there is nothing to evaluate.", "warn")
    header = ("", "images", "mean weight", "PSNR", "PSNR masked", "SSIM", "LPIPS", "PSNR, full image")
    rows = [
        (f"{name} alone", str(block.frames), f"{block.weight:.0%}", _number(block.psnr, 2), "", "", "", "")
        for name, block in scores.blocks.items()
    ]
    means = scores.mean
    values = [(means.psnr, 2), (means.psnr_masked, 2), (means.ssim, 3), (means.lpips, 3), (means.psnr_full, 2)]
    last = ("city, blended", str(len(scores.frames)), "", *(_number(value, digits) for value, digits in values))
    return protocol + table(header, rows, last) + _frame_table(scores.frames)


def _frame_table(frames: Sequence[ImageMetrics]) -> str:
    header = ("image", "PSNR", "PSNR masked", "SSIM", "LPIPS")
    rows = []
    for frame in frames:
        metrics = frame.metrics
        values = [(metrics.psnr, 2), (metrics.psnr_masked, 2), (metrics.ssim, 3), (metrics.lpips, 3)]
        rows.append((frame.name, *(_number(value, digits) for value, digits in values)))
    return f"<details><summary class=faint>All images</summary>{table(header, rows)}</details>"


def _map(folder: RunFolder) -> str:
    body = ""
    if folder.map.exists():
        image = img_tag(folder.map, "map of blocks, images and points", lossless=True)
        body += figure(image, "Blocks, images, their path and lidar points, from above.", "map wide")
    if not folder.coverage.exists():
        return body
    coverage = read_coverage(folder.coverage)
    header = ("block", "images", "visible only", "held out", "megapixels", "segments", "overlap", "neighbors")
    rows = [
        (
            row.block,
            *map(str, (row.frames, row.visible_from_outside, row.test_frames)),
            f"{row.pixels / 1e6:.1f}",
            str(row.segments),
            f"{row.overlap:.0%}",
            ", ".join(row.neighbors),
        )
        for row in coverage.blocks
    ]
    warnings = "".join(paragraph(warning, "warn") for warning in coverage.warnings)
    return body + warnings + table(header, rows)


def _poses(folder: RunFolder, capture: Capture) -> str:
    if not folder.poses.exists():
        return ""
    *rows, last = residual_rows(read_pose_average(folder.poses), metric=capture.is_metric)
    return paragraph(TABLE_CAPTION, "faint") + table(TABLE_HEADER, rows, last)


def _training(folder: RunFolder, city: City, records: Mapping[str, TrainingRecord]) -> str:
    colors = _colors(city)
    digests = {block.name: records[block.name].log if block.name in records else None for block in city.blocks}
    logs = {name: lines for name, digest in digests.items() if (lines := read_log(folder.log(name), digest))}
    if not logs:
        return paragraph("Not trained yet: blocknerf train", "warn")
    loss = line_chart(_series(logs, colors, "loss"), label="loss", x_label="step", y_label="loss", log=True)
    psnr = line_chart(_series(logs, colors, "psnr"), label="PSNR", x_label="step", y_label="PSNR of batches (dB)")
    charts = f'<div class="pair">{figure(loss, "Loss.")}{figure(psnr, "PSNR of the training pixels.")}</div>'
    header = ("block", "steps", "images", "time", "rays/s", "training PSNR")
    rows = [_training_row(name, lines, records.get(name, TrainingRecord())) for name, lines in logs.items()]
    return charts + legend({name: colors[name] for name in logs}) + table(header, rows)


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


def _provenance(capture: Capture, city: City, records: Mapping[str, TrainingRecord]) -> str:
    versions = next((record.versions for record in records.values() if record.versions), {})
    devices = sorted({record.device for record in records.values() if record.device is not None})
    facts = [
        ("Source", capture.source),
        ("Unit", "meters" if capture.is_metric else "arbitrary"),
        ("Segments", ", ".join(capture.segments)),
        ("Blending", f"{city.weighting}, power {city.power:g}, within {city.selection_radius:g} radii"),
        ("Culling", f"blocks below a mean predicted visibility of {city.visibility_threshold:g}"),
        ("Trained on", ", ".join(devices) or "-"),
        ("Versions", ", ".join(f"{key} {value}" for key, value in versions.items()) or f"blocknerf {__version__}"),
        ("City digest", city.digest),
    ]
    return definition_list(facts)


def _colors(city: City) -> dict[str, str]:
    return {block.name: "#{:02x}{:02x}{:02x}".format(*block_color(i)) for i, block in enumerate(city.blocks)}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
