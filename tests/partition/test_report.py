"""Figures of a partition, counted by hand."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from blocknerf.partition.block import Block
from blocknerf.partition.frame_assignment import FrameAssignment
from blocknerf.partition.report import coverage, coverage_table, overlap_fractions, write_coverage

PATH = torch.stack([torch.arange(80.0), torch.zeros(80)], -1)
BLOCKS = [Block(name=f"b{i}", origin=(x, 0.0, 2.0), radius=20.0) for i, x in enumerate((10.0, 30.0, 65.0, 300.0))]


def member(block: int, frames: range, by_sight: int = 0, **others) -> FrameAssignment:
    reasons = ("visible",) * by_sight + ("position",) * (len(frames) - by_sight)
    return FrameAssignment(block=f"b{block}", frames=tuple(frames), reasons=reasons, **others)


MEMBERS = [
    member(0, range(30), by_sight=3, test_frames=(30,), skipped_static=(31, 32)),
    member(1, range(10, 50)),
    member(2, range(45, 80)),
    member(3, range(70, 80)),
]


def test_figures_are_those_of_the_memberships(drive) -> None:
    capture = drive(PATH, segments=["a"] * 20 + ["b"] * 60)
    report = coverage(capture, BLOCKS, MEMBERS)
    first = report.blocks[0]
    assert (first.frames, first.visible_from_outside, first.test_frames, first.skipped_static) == (30, 3, 1, 2)
    assert (first.pixels, first.segments) == (30 * 40 * 30, 2)
    assert (report.frames, report.unused_frames) == (80, 0)
    assert coverage(capture, BLOCKS[:1], MEMBERS[:1]).unused_frames == 49


def test_neighbors_are_those_that_overlap_nearest_first(drive) -> None:
    rows = coverage(drive(PATH), BLOCKS, MEMBERS).blocks
    assert [row.neighbors for row in rows] == [("b1",), ("b0", "b2"), ("b1",), ()]
    assert [row.overlap for row in rows] == pytest.approx([0.5, 0.5, 0.125, 0.0])


def test_a_small_disc_inside_a_large_one_is_shared_whole() -> None:
    inner, outer = Block(name="a", origin=(1.0, 0.0, 0.0), radius=2.0), Block(name="b", origin=(0.0,) * 3, radius=9.0)
    assert overlap_fractions([inner, outer]).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_starved_and_overfull_blocks_are_warned_of(drive) -> None:
    crowded = [member(0, range(80)), *(member(i, range(10, 27)) for i in (1, 2)), member(3, range(9))]
    starved, overfull = coverage(drive(PATH), BLOCKS, crowded).warnings[::-1]
    assert starved.startswith("block b3: starved: 9 frames")
    assert overfull.startswith("block b0: overfull: 80 frames")
    assert coverage(drive(PATH), BLOCKS[:3], MEMBERS[:3]).warnings == ()


def test_the_json_has_every_figure(drive, tmp_path: Path) -> None:
    report = coverage(drive(PATH), BLOCKS, MEMBERS)
    write_coverage(report, tmp_path / "coverage.json", {"radius": None})
    document = json.loads((tmp_path / "coverage.json").read_text())
    assert document["format"] == "blocknerf.coverage/2"
    assert document["parameters"] == {"radius": None}
    assert [row["frames"] for row in document["blocks"]] == [30, 40, 35, 10]
    assert document["blocks"][1]["neighbors"] == ["b0", "b2"]
    assert document["warnings"] == list(report.warnings) != []


def test_blocks_left_out_of_a_map_are_told(drive, tmp_path: Path) -> None:
    page = io.StringIO()
    for dropped in (0, 1, 7):
        report = coverage(drive(PATH), BLOCKS, MEMBERS, dropped)
        Console(file=page, width=80).print(coverage_table(report))
        write_coverage(report, tmp_path / "coverage.json", {})
        assert json.loads((tmp_path / "coverage.json").read_text())["dropped_blocks"] == dropped
    told = [line.split(" of the ")[0] for line in page.getvalue().splitlines() if "left out" in line]
    assert told == ["1 more block", "7 more blocks"]


def test_the_table_fits_a_terminal_of_80_columns(drive) -> None:
    capture = drive(PATH)
    large = replace(capture, frames=tuple(replace(frame, segment=f"s{i}") for i, frame in enumerate(capture.frames)))
    page = io.StringIO()
    Console(file=page, width=80).print(coverage_table(coverage(large, BLOCKS, MEMBERS)))
    lines = page.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["b0", "30", "3", "1", "2", "0.0", "30", "50%", "1"] for line in lines)
