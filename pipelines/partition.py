"""Where a run's blocks lie and which frames train each: from `capture.json` to `city.json`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import PlacementError, RunError
from blocknerf.files import LARGEST_JSON, read_bounded, read_json
from blocknerf.images import write_image
from blocknerf.partition.membership import Membership, assign, check_held_out, write_membership
from blocknerf.partition.placement import place
from blocknerf.partition.plan import draw_plan
from blocknerf.partition.radius import check_radius
from blocknerf.partition.report import coverage, coverage_table, write_coverage
from blocknerf.partition.street_placement import Layout, place_on_streets
from blocknerf.presets import Preset
from pipelines.job import is_done, say, show
from pipelines.records import difference

ANOTHER = "choose another output folder"


def partition(
    run: Path,
    *,
    placement: Literal["auto", "route", "grid"] = "auto",
    blocks_file: Path | None = None,
    streets: Path | None = None,
    radius: float | None = None,
    preset: Preset = "draft",
    held_out: int = 8,
) -> City:
    """Place the blocks of a run, and say which frames train each.

    Writes each block's frames.json, plan.png and coverage.json, and at last city.json; skips where that exists.

    Args:
        run: The run folder, which holds a capture.
        placement: How blocks are placed; auto takes route for cameras on the ground and grid for an aerial capture.
        blocks_file: Blocks by hand, JSON or GeoJSON, in place of a placement.
        streets: OpenStreetMap extract (.osm, plain or as .bz2 or .gz): a block at each of its intersections, in place
            of a placement. Needs the extra `streets`, and a capture with a geographic origin.
        radius: Radius of a block in the capture's unit, with streets that of the largest; by default derived.
        preset: How much work a block is worth; draft takes minutes a block without a GPU.
        held_out: Every n-th frame is kept from training and judged; 0 keeps none.

    Raises:
        CaptureError: The capture cannot be read.
        OptionError: A number is out of range.
        PlacementError: The blocks cannot be placed, leave a frame out, or hold none, or a file that was given is not
            there; nothing is written.
        RunError: The folder was partitioned otherwise before.
    """
    check_placement(radius, held_out)
    folder = RunFolder(run)
    capture = read_capture(folder.capture)
    asked = {"placement": placement, "radius": radius, "blocks_file": _digest(blocks_file)}
    # Only where given, so that runs from before there were maps are still known as what they are.
    asked |= {"streets": _digest(streets)} if streets is not None else {}
    asked |= {"preset": preset, "held_out": held_out}
    if folder.city.exists():
        return _kept(folder, asked)
    if streets is None:
        layout = Layout(blocks=tuple(place(capture, placement, radius, blocks_file)))
    elif placement == "auto" and blocks_file is None:
        layout = place_on_streets(capture, streets, radius, preset)
    else:
        raise PlacementError("partition: --streets is a placement of its own; leave out --placement and --blocks-file")
    members = assign(capture, layout.blocks, held_out=held_out)
    city = City(blocks=layout.blocks, preset=preset, held_out=held_out)
    _publish(folder, capture, layout, members, asked)
    write_city(city, folder.city)
    return city


def check_placement(radius: float | None, held_out: int) -> None:
    """Refuse a radius that is no length, and what leaves no frame to train on.

    Raises:
        OptionError: a number is out of range.
        PlacementError: the numbers cannot be followed.
    """
    check_radius(radius)
    check_held_out(held_out)


def _publish(
    folder: RunFolder, capture: Capture, layout: Layout, members: Sequence[Membership], asked: dict[str, Any]
) -> None:
    """Write all but `city.json`, and print the coverage."""
    _clear(folder)
    for member in members:
        write_membership(member, capture, folder.frames(member.block))
    report = coverage(capture, layout.blocks, members, layout.dropped)
    write_coverage(report, folder.coverage, asked)
    write_image(folder.plan, draw_plan(capture, layout.blocks, members, layout.streets))
    show(coverage_table(report))
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(f"plan: {folder.plan}")


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
        raise RunError(f"{folder.coverage}: key 'parameters' is missing, so it cannot be compared; {ANOTHER}")
    if differs := difference(written, asked):
        raise RunError(f"{folder.city}: was partitioned with {differs}; {ANOTHER}")
    is_done(folder.city)
    return city


def _digest(file: Path | None) -> str | None:
    """What a blocks file or a map says, in short, so that a changed one is noticed wherever it lies; None if none.

    Raises:
        PlacementError: it is not there, which must not pass for "none was given", or cannot be read.
    """
    if file is None:
        return None
    try:
        return hashlib.sha256(read_bounded(file, "file", PlacementError, LARGEST_JSON)).hexdigest()[:16]
    except FileNotFoundError:
        raise PlacementError(f"{file}: this file does not exist; check the path") from None
