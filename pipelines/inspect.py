"""What a capture holds, what an import would decide about it, and the blocks it would get, without writing a run."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from rich.table import Table

from blocknerf.cameras import CameraModel
from blocknerf.capture import Capture, Frame
from blocknerf.capture.orientation import estimate_up, points_seen
from blocknerf.images import write_image
from blocknerf.importers.importer import DEFAULT_OPTIONS, ImportOptions
from blocknerf.importers.recognition import load_source
from blocknerf.partitioning.frame_assignment import assign_frames, check_test_every
from blocknerf.partitioning.map_image import draw_map
from blocknerf.partitioning.placement import place_blocks
from blocknerf.partitioning.radius import check_radius
from blocknerf.partitioning.report import coverage, coverage_table
from pipelines.console import log, print_table, table


def inspect(
    capture: Path,
    *,
    image: Path = Path("inspection.png"),
    source: ImportOptions = DEFAULT_OPTIONS,
    placement: Literal["auto", "route", "grid"] = "auto",
    radius: float | None = None,
    test_every: int = 8,
) -> Capture:
    """Show what a capture holds and what an import decides about it, with a map of the blocks it would get.

    Prints the cameras, the world and the blocks, and writes one image. No run is started.

    Args:
        capture: A capture of any kind that `blocknerf ingest` reads.
        image: Image to write: cameras, points and blocks from above.
        source: Options of the import.
        placement: How to place blocks. auto chooses route for cameras on the ground and grid for aerial captures.
        radius: Block radius in the capture's unit. Default: derived from the capture.
        test_every: Hold out every n-th instant of each segment for evaluation, with all its cameras; 0 holds out
            none. Lists of test images in the capture come first.

    Returns:
        The capture as an import would write it.

    Raises:
        CaptureError: The capture cannot be used.
        OptionError: A number is out of range.
        PlacementError: The blocks cannot be placed.
    """
    check_radius(radius)
    check_test_every(test_every)
    source.check()
    with tempfile.TemporaryDirectory(prefix="blocknerf-") as work:
        found = load_source(capture, source, Path(work))
        print_table(camera_table(found))
        for line in (*world_lines(found), *found.notes):
            log(line)
        blocks = place_blocks(found, placement, radius)
        assignments = assign_frames(found, blocks, test_every=test_every)
        report = coverage(found, blocks, assignments)
        print_table(coverage_table(report))
        for warning in report.warnings:
            log(f"warning: {warning}")
        write_image(image, draw_map(found, blocks, assignments))
    log(f"map: {image}")
    return found


def camera_table(capture: Capture) -> Table:
    """Return a table of the cameras: images, size, lens, angle of view and what is known of each image."""
    cameras: dict[str, list[Frame]] = {}
    for frame in capture.frames:
        cameras.setdefault(frame.camera, []).append(frame)
    head = (
        "camera",
        "images",
        "segments",
        "size",
        "model",
        "focal",
        "view",
        "masks",
        "exposure",
        "time",
        "not training",
    )
    return table(head, [_camera_row(name, frames) for name, frames in cameras.items()])


def world_lines(capture: Capture) -> Iterator[str]:
    """Yield lines about the world: unit, extent, up, origin and points."""
    unit = "m" if capture.is_metric else "units of unknown length"
    yield f"cameras: {2 * capture.extent:.3g} {unit} across"
    up = estimate_up(capture)
    yield "up: unknown; +z is assumed" if up is None else f"up: {up.tilt:.1f} degrees from +z, according to the cameras"
    if capture.geo_origin is not None:
        yield "origin: {:.6f}, {:.6f}, {:.1f} m (latitude, longitude, altitude)".format(*capture.geo_origin)
    for kind, cloud in (("sparse points", capture.read_sparse_points()), ("lidar points", capture.read_lidar_points())):
        if cloud is not None:
            yield f"{kind}: {len(cloud):,}{'' if cloud.colors is None else ', with colors'}"
    if (seen := points_seen(capture)) is not None:
        yield f"points in an image: {seen:.0%}"
    if capture.lidar_sweeps:
        yield f"lidar sweeps: {len(capture.lidar_sweeps):,}"


def _camera_row(name: str, frames: Sequence[Frame]) -> list[str]:
    lenses = [frame.intrinsics for frame in frames]
    sizes = list(dict.fromkeys("x".join(map(str, lens.size)) for lens in lenses))
    focal = median(lens.fx for lens in lenses)
    model = lenses[0].model
    width = median(lens.width for lens in lenses)
    angle = width / focal if model is CameraModel.FISHEYE else 2 * math.atan(width / (2 * focal))
    exposures = [frame.exposure for frame in frames if frame.exposure is not None]
    test = sum(frame.split in ("val", "test") for frame in frames)
    return [
        name,
        f"{len(frames):,}",
        f"{len({frame.segment for frame in frames}):,}",
        sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes",
        model.name.lower(),
        f"{focal:.1f}",
        f"{math.degrees(angle):.0f}°",
        _share(sum(frame.mask is not None for frame in frames), len(frames)),
        f"{min(exposures):.3g} to {max(exposures):.3g}" if exposures else "–",
        _share(sum(frame.timestamp is not None for frame in frames), len(frames)),
        f"{test}" if test else "–",
    ]


def _share(count: int, total: int) -> str:
    return "–" if count == 0 else "all" if count == total else f"{count:,}"
