"""Block placement and frame assignment of a run: from `capture.json` to `city.json`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import write_block_frames
from blocknerf.errors import PlacementError, RunError
from blocknerf.files import MAX_JSON_BYTES, read_bounded
from blocknerf.images import write_image
from blocknerf.options import Preset
from blocknerf.partitioning.frame_assignment import FrameAssignment, assign_frames, check_test_every
from blocknerf.partitioning.held_out import hold_out
from blocknerf.partitioning.map_image import draw_map
from blocknerf.partitioning.placement import place_blocks
from blocknerf.partitioning.radius import check_radius
from blocknerf.partitioning.report import coverage, coverage_table, read_parameters, write_coverage
from blocknerf.partitioning.street_placement import BlockLayout, place_on_streets
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
    """Place the blocks of a run and assign training frames to each.

    Writes frames.json and frames.table of each block, map.png, coverage.json and finally city.json. Skipped if
    city.json exists.

    Args:
        run: Run folder that contains a capture.
        placement: How to place blocks. auto chooses route for cameras on the ground and grid for aerial captures.
        blocks: File with hand-made blocks (JSON or GeoJSON), instead of --placement.
        osm: OpenStreetMap extract (.osm, .osm.bz2 or .osm.gz): places a block at each intersection, instead of
            --placement. Needs the extra 'streets' and a capture with a geographic origin.
        radius: Block radius in the capture's unit; with --osm, the largest one. Default: derived from the capture.
        preset: Quality preset. draft takes minutes per block without a GPU.
        test_every: Hold out every n-th instant of each segment for evaluation, with all its cameras; 0 holds out
            none. Lists of test images in the capture come first.

    Returns:
        The blocks and settings of the run.

    Raises:
        CaptureError: The capture cannot be read.
        OptionError: A number is out of range.
        PlacementError: The blocks cannot be placed, a frame is in no block, a block has no frame, or an input file is
            missing. Nothing is written.
        RunError: The run was already partitioned with other options.
    """
    check_placement(radius, test_every)
    folder = RunFolder(run)
    capture = read_capture(folder.capture)
    requested = {"placement": placement, "radius": radius, "blocks": _digest(blocks)}
    # Only if given, so that older runs compare equal.
    requested |= {"osm": _digest(osm)} if osm is not None else {}
    requested |= {"preset": preset, "test_every": test_every}
    if folder.city.exists():
        return _existing_city(folder, requested)
    if osm is None:
        layout = BlockLayout(blocks=tuple(place_blocks(capture, placement, radius, blocks)))
    elif placement == "auto" and blocks is None:
        layout = place_on_streets(capture, osm, radius, preset)
    else:
        raise PlacementError("partition: --osm cannot be combined with --placement or --blocks; leave those out")
    members = assign_frames(capture, layout.blocks, test_every=test_every)
    held_out = hold_out(capture, test_every)
    city = City(blocks=layout.blocks, preset=preset, test_every=test_every, test_frames=held_out.test)
    log(f"{held_out.rule}: {len(held_out.test)} of {len(capture)} images")
    _publish(folder, capture, city, layout, members, requested)
    write_city(city, folder.city)
    return city


def check_placement(radius: float | None, test_every: int) -> None:
    """Raise if the radius is not a length, or if no frame would be left for training.

    Raises:
        OptionError: A number is out of range.
        PlacementError: The numbers cannot be used.
    """
    check_radius(radius)
    check_test_every(test_every)


def _publish(
    folder: RunFolder,
    capture: Capture,
    city: City,
    layout: BlockLayout,
    members: Sequence[FrameAssignment],
    requested: dict[str, Any],
) -> None:
    """Write all files except `city.json`, and print the coverage."""
    _clear(folder)
    write_block_frames(folder, members, capture, city)
    report = coverage(capture, layout.blocks, members, layout.dropped)
    write_coverage(report, folder.coverage, requested)
    write_image(folder.map, draw_map(capture, layout.blocks, members, layout.streets))
    print_table(coverage_table(report))
    for warning in report.warnings:
        log(f"warning: {warning}")
    log(f"map: {folder.map}")


def _clear(folder: RunFolder) -> None:
    """Remove the blocks of an interrupted partition, which may differ from the new ones."""
    for block in folder.blocks.iterdir() if folder.blocks.is_dir() else ():
        files = folder.frames(block.name), folder.block_capture(block.name)
        if {entry.name for entry in block.iterdir()} <= {file.name for file in files}:
            for file in files:
                file.unlink(missing_ok=True)
            block.rmdir()


def _existing_city(folder: RunFolder, requested: dict[str, Any]) -> City:
    """Return the existing city, if it was made with the same options.

    Raises:
        RunError: It was made with other options.
    """
    city = read_city(folder.city)
    if differs := difference(read_parameters(folder.coverage), requested):
        raise RunError(f"{folder.city}: was partitioned with {differs}; {OTHER_FOLDER_HINT}")
    skip_if_exists(folder.city)
    return city


def _digest(file: Path | None) -> str | None:
    """Return a short digest of a blocks file or a map, wherever it is located; None for None.

    Raises:
        PlacementError: The file does not exist or cannot be read.
    """
    if file is None:
        return None
    try:
        return hashlib.sha256(read_bounded(file, "file", PlacementError, MAX_JSON_BYTES)).hexdigest()[:16]
    except FileNotFoundError:
        raise PlacementError(f"{file}: this file does not exist; check the path") from None
