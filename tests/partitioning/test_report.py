"""Coverage report against hand-counted figures."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import FrameAssignment
from blocknerf.partitioning.report import coverage, coverage_table, overlap_fractions, write_coverage

PATH = torch.stack([torch.arange(80.0), torch.zeros(80)], -1)
BLOCKS = [Block(name=f"b{i}", origin=(x, 0.0, 2.0), radius=20.0) for i, x in enumerate((10.0, 30.0, 65.0, 300.0))]


def make_assignment(block: int, frames: range, visible: int = 0, **fields) -> FrameAssignment:
    reasons = ("visible",) * visible + ("position",) * (len(frames) - visible)
    return FrameAssignment(block=f"b{block}", frames=tuple(frames), reasons=reasons, **fields)


ASSIGNMENTS = [
    make_assignment(0, range(30), visible=3, test_frames=(30,), skipped_static=(31, 32)),
    make_assignment(1, range(10, 50)),
    make_assignment(2, range(45, 80)),
    make_assignment(3, range(70, 80)),
]


def test_coverage_figures(drive) -> None:
    capture = drive(PATH, segments=["a"] * 20 + ["b"] * 60)
    report = coverage(capture, BLOCKS, ASSIGNMENTS)
    first = report.blocks[0]
    assert (first.frames, first.visible_from_outside, first.test_frames, first.skipped_static) == (30, 3, 1, 2)
    assert (first.pixels, first.segments) == (30 * 40 * 30, 2)
    assert (report.frames, report.unused_frames) == (80, 0)
    assert coverage(capture, BLOCKS[:1], ASSIGNMENTS[:1]).unused_frames == 49


def test_neighbors_are_sorted_by_overlap(drive) -> None:
    blocks = coverage(drive(PATH), BLOCKS, ASSIGNMENTS).blocks
    assert [block.neighbors for block in blocks] == [("b1",), ("b0", "b2"), ("b1",), ()]
    assert [block.overlap for block in blocks] == pytest.approx([0.5, 0.5, 0.125, 0.0])


def test_overlap_of_a_disc_inside_another() -> None:
    inner, outer = Block(name="a", origin=(1.0, 0.0, 0.0), radius=2.0), Block(name="b", origin=(0.0,) * 3, radius=9.0)
    assert list(overlap_fractions([inner, outer])) == [{1: 1.0}, {0: 1.0}]


def test_warnings_of_starved_and_overfull_blocks(drive) -> None:
    uneven = [
        make_assignment(0, range(80)),
        *(make_assignment(i, range(10, 27)) for i in (1, 2)),
        make_assignment(3, range(9)),
    ]
    starved, overfull = coverage(drive(PATH), BLOCKS, uneven).warnings[::-1]
    assert starved.startswith("block b3: starved: 9 frames")
    assert overfull.startswith("block b0: overfull: 80 frames")
    assert coverage(drive(PATH), BLOCKS[:3], ASSIGNMENTS[:3]).warnings == ()


def test_json_has_all_figures(drive, tmp_path: Path) -> None:
    report = coverage(drive(PATH), BLOCKS, ASSIGNMENTS)
    write_coverage(report, tmp_path / "coverage.json", {"radius": None})
    document = json.loads((tmp_path / "coverage.json").read_text())
    assert document["format"] == "blocknerf.coverage/2"
    assert document["parameters"] == {"radius": None}
    assert [block["frames"] for block in document["blocks"]] == [30, 40, 35, 10]
    assert document["blocks"][1]["neighbors"] == ["b0", "b2"]
    assert document["warnings"] == list(report.warnings) != []


def test_dropped_blocks_are_reported(drive, tmp_path: Path) -> None:
    output = io.StringIO()
    for dropped in (0, 1, 7):
        report = coverage(drive(PATH), BLOCKS, ASSIGNMENTS, dropped)
        Console(file=output, width=80).print(coverage_table(report))
        write_coverage(report, tmp_path / "coverage.json", {})
        assert json.loads((tmp_path / "coverage.json").read_text())["dropped_blocks"] == dropped
    reported = [line.split(" of the ")[0] for line in output.getvalue().splitlines() if "dropped" in line]
    assert reported == ["1 more block", "7 more blocks"]


def test_table_fits_a_terminal_of_80_columns(drive) -> None:
    capture = drive(PATH)
    large = replace(capture, frames=tuple(replace(frame, segment=f"s{i}") for i, frame in enumerate(capture.frames)))
    output = io.StringIO()
    Console(file=output, width=80).print(coverage_table(coverage(large, BLOCKS, ASSIGNMENTS)))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["b0", "30", "3", "1", "2", "0.0", "30", "50%", "1"] for line in lines)
