"""Tables 2 and 3 and the figure of blended presets with few steps, and the blocks of table 2."""

import math
from itertools import pairwise
from pathlib import Path

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.city.manifest import WEIGHTINGS
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.checkpoint import read_header
from blocknerf.json_file import read_json
from tests.benchmarks.paper import table2, table3
from tests.benchmarks.paper.matching import blend_figure, result_rows
from tests.benchmarks.paper.table2 import STREET, Experiment, cells, parameters, place_blocks, run_table


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_blocks_cover_the_street_and_overlap_by_half(count: int) -> None:
    blocks = place_blocks(count)
    assert len(blocks) == count
    ends = [(block.origin[0] - block.radius, block.origin[0] + block.radius) for block in blocks]
    assert ends[0][0] <= STREET[0]
    assert ends[-1][1] >= STREET[1]
    for (_, end), (start, stop) in pairwise(ends):
        assert end - start == pytest.approx(0.5 * (stop - start))


def test_equal_total_halves_the_tables_as_blocks_double() -> None:
    experiment = Experiment(steps=1, table=15)
    assert [experiment.tables("equal_size", count) for count in (1, 2, 4, 8)] == [15, 15, 15, 15]
    assert [experiment.tables("equal_total", count) for count in (1, 2, 4, 8)] == [18, 17, 16, 15]


def test_tables_two_and_three(tmp_path: Path, town: Capture) -> None:
    experiment = Experiment(steps=8, table=8, capture=town.image_dir, threads=1)
    rows = run_table(experiment, [2, 8], [0], tmp_path)
    assert [row["blocks"] for row in rows] == [2, 8]
    assert rows[1]["equal_size"] == rows[1]["equal_total"]
    assert rows[0]["equal_size"] != rows[0]["equal_total"]
    assert rows[0]["equal_size"]["parameters"] < rows[0]["equal_total"]["parameters"]
    assert [row["equal_size"]["steps"] for row in rows] == [16, 64]
    runs = {cell: RunFolder(experiment.folder(tmp_path, cell, 0)) for cell in cells([2, 8])}
    assert len({run.path for run in runs.values()}) == 3
    for (count, column), run in runs.items():
        blocks = run.trained_blocks()
        assert len(blocks) == count
        assert {read_header(run.field(name)).spec.log2_hashmap_size for name in blocks} == {
            experiment.tables(column, count)
        }
        assert {read_json(run.train_summary(name), "record")["config"]["steps"] for name in blocks} == {8}
        scores = rows[[2, 8].index(count)][column]
        assert scores["psnr"] == read_json(run.evaluation, "scores")["mean"]["psnr"]
    run = runs[2, "equal_size"]
    assert parameters(run.path) == rows[0]["equal_size"]["parameters"]
    assert {line["blocks"] for line in table2.flat(rows)} == {2, 8}

    weightings = table3.table([run], num_frames=7, width=16, max_frames=5)
    assert [row["name"] for row in weightings] == list(WEIGHTINGS)
    temporal = {row["name"]: row["temporal"] for row in weightings}
    assert all(math.isfinite(row["psnr"]) and row["peak"] > 0.0 for row in weightings)
    assert temporal["nearest"] > temporal["inverse_distance_2d"] > temporal["visibility_image"] > 0.0

    figure = blend_figure(run, ("drive0_noon", "drive1_dusk"), steps=3)
    assert figure.shape == (3 * 14 + 2 * 2, 2 * 24, 3)
    assert run.appearance_preset("noon").is_file()
    assert run.appearance_preset("dusk").is_file()


def test_result_rows_are_means_over_overlaps() -> None:
    overlaps = [
        {"unmatched": 0.1, "matched": 0.02, "same_segment": 0.02},
        {"unmatched": 0.2, "matched": 0.03, "same_segment": 0.04},
    ]
    before, after = result_rows(overlaps, [0.04, 0.06])
    assert (before["name"], after["name"]) == ("unmatched", "matched")
    assert before["difference"] == pytest.approx(0.15)
    assert before["maximum"] == 0.2
    assert after["ratio"] == pytest.approx(6.0)
    assert after["same_segment"] == pytest.approx(0.03)
    assert after["halfway"] == pytest.approx(0.05)
