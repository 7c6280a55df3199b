"""Where a run's blocks lie and which frames train each: from `capture.json` to `city.json`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import PlacementError, RunError
from blocknerf.files import MAX_JSON_BYTES, read_bounded, read_json
from blocknerf.images import write_image
from blocknerf.partition.frame_assignment import FrameAssignment, assign_frames, check_test_every, write_assignment
from blocknerf.partition.map_image import draw_map
from blocknerf.partition.placement import place_blocks
from blocknerf.partition.radius import check_radius
from blocknerf.partition.report import coverage, coverage_table, write_coverage
from blocknerf.partition.street_placement import BlockLayout, place_on_streets
from blocknerf.quality import Preset
from pipelines.console import log, print_table, skip_if_exists
from pipelines.training_log import difference

OTHER_FOLDER_HINT = "choose another output folder"


def partition(
    run: Path,
    *,
    placement: Literal["auto", "route", "grid"] = "auto",
    blocks: Path | None = None,
    osm: Path | None = None,
    radius: float | None = None,
    preset: Preset = "draft",
    test_every: int = 8,
) -> City:
    """Place the blocks of a run, and say which frames train each.

    Writes each block's frames.json, map.png and coverage.json, and at last city.json; skips where that exists.

    Args:
        run: The run folder, which holds a capture.
        placement: How blocks are placed; auto takes route for cameras on the ground and grid for an aerial capture.
        blocks: Blocks by hand, JSON or GeoJSON, in place of a placement.
        osm: OpenStreetMap extract (.osm, plain or as .bz2 or .gz): a block at each of its intersections, in place
            of a placement. Needs the extra `osm`, and a capture with a geographic origin.
        radius: Radius of a block in the capture's unit, with streets that of the largest; by default derived.
        preset: How much work a block is worth; draft takes minutes a block without a GPU.
        test_every: Every n-th frame is kept from training and judged; 0 keeps none.

    Raises:
        CaptureError: The capture cannot be read.
        OptionError: A number is out of range.
        PlacementError: The blocks cannot be placed, leave a frame out, or hold none, or a file that was given is not
            there; nothing is written.
        RunError: The folder was partitioned otherwise before.
    """
    check_placement(radius, test_every)
    folder = RunFolder(run)
    capture = read_capture(folder.capture)
    asked = {"placement": placement, "radius": radius, "blocks_file": _digest(blocks)}
    # Only where given, so that runs from before there were maps are still known as what they are.
    asked |= {"streets": _digest(osm)} if osm is not None else {}
    asked |= {"preset": preset, "test_every": test_every}
    if folder.city.exists():
        return _kept(folder, asked)
    if osm is None:
        layout = BlockLayout(blocks=tuple(place_blocks(capture, placement, radius, blocks)))
    elif placement == "auto" and blocks is None:
        layout = place_on_streets(capture, osm, radius, preset)
    else:
        raise PlacementError("partition: --osm is a placement of its own; leave out --placement and --blocks")
    members = assign_frames(capture, layout.blocks, test_every=test_every)
    city = City(blocks=layout.blocks, preset=preset, test_every=test_every)
    _publish(folder, capture, layout, members, asked)
    write_city(city, folder.city)
    return city


def check_placement(radius: float | None, test_every: int) -> None:
    """Refuse a radius that is no length, and what leaves no frame to train on.

    Raises:
        OptionError: a number is out of range.
        PlacementError: the numbers cannot be followed.
    """
    check_radius(radius)
    check_test_every(test_every)


def _publish(
    folder: RunFolder, capture: Capture, layout: BlockLayout, members: Sequence[FrameAssignment], asked: dict[str, Any]
) -> None:
    """Write all but `city.json`, and print the coverage."""
    _clear(folder)
    for member in members:
        write_assignment(member, capture, folder.frames(member.block))
    report = coverage(capture, layout.blocks, members, layout.dropped)
    write_coverage(report, folder.coverage, asked)
    write_image(folder.map, draw_map(capture, layout.blocks, members, layout.streets))
    print_table(coverage_table(report))
    for warning in report.warnings:
        log(f"warning: {warning}")
    log(f"plan: {folder.map}")


def _clear(folder: RunFolder) -> None:
    """Remove what an attempt that was stopped before `city.json` left: its blocks may have been others."""
    for block in folder.blocks.iterdir() if folder.blocks.is_dir() else ():
        if {entry.name for entry in block.iterdir()} <= {folder.frames(block.name).name}:
            folder.frames(block.name).unlink(missing_ok=True)
            block.rmdir()


def _kept(folder: RunFolder, asked: dict[str, Any]) -> City:
    """The city that is there, if it was asked for in the same way."""
    city = read_city(folder.city)
    written = read_json(folder.coverage, "coverage").get("parameters")
    if not isinstance(written, dict):
        raise RunError(f"{folder.coverage}: key 'parameters' is missing, so it cannot be compared; {OTHER_FOLDER_HINT}")
    if differs := difference(written, asked):
        raise RunError(f"{folder.city}: was partitioned with {differs}; {OTHER_FOLDER_HINT}")
    skip_if_exists(folder.city)
    return city


def _digest(file: Path | None) -> str | None:
    """What a blocks file or a map says, in short, so that a changed one is noticed wherever it lies; None if none.

    Raises:
        PlacementError: it is not there, which must not pass for "none was given", or cannot be read.
    """
    if file is None:
        return None
    try:
        return hashlib.sha256(read_bounded(file, "file", PlacementError, MAX_JSON_BYTES)).hexdigest()[:16]
    except FileNotFoundError:
        raise PlacementError(f"{file}: this file does not exist; check the path") from None
