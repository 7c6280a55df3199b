"""The page of results says what the result files say, and each of those says how it was made."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.paper.page import COLUMNS, fill_page, flatten

NAMES = {
    "table1": ["full", "no_appearance", "no_exposure", "no_pose", "no_masks", "robust", "full_thrice"],
    "table3": ["nearest", "inverse_distance_2d", "inverse_distance_3d", "visibility_pixel", "visibility_image"],
    "matching": ["unmatched", "matched"],
}


@pytest.fixture(scope="session")
def results(repository: Path) -> Path:
    return repository / "data_samples" / "results"


def rows_of(results: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((results / f"{name}.json").read_text())["rows"]


def test_page_and_files_agree(results: Path) -> None:
    page = (results / "README.md").read_text()
    assert page == fill_page(page, results), "run: python -m tests.benchmarks.paper.page"
    assert set(re.findall(r"<!-- (\w+) -->", page)) == set(COLUMNS)


def test_every_result_says_how_it_was_made(results: Path) -> None:
    paths = sorted(results.glob("*.json"))
    assert {path.stem for path in paths} >= {*NAMES, "table2"}
    for path in paths:
        result = json.loads(path.read_text())
        assert {"command", "commit", "seeds", "rows"} <= result.keys(), path.name
        assert re.fullmatch(r"[0-9a-f]{40}(, [0-9a-f]{40})*", result["commit"]), path.name
        assert result["command"].startswith("python -m tests.benchmarks."), path.name
        assert result["rows"], path.name


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_there(results: Path, name: str) -> None:
    assert [row["name"] for row in rows_of(results, name)] == NAMES[name]


def test_the_number_of_blocks_has_both_columns(results: Path) -> None:
    rows = rows_of(results, "table2")
    assert [row["blocks"] for row in rows] == [1, 2, 4, 8]
    assert all({"equal_size.psnr", "equal_total.psnr"} <= flatten(row).keys() for row in rows)


def test_every_image_is_shown(results: Path) -> None:
    page = (results / "README.md").read_text()
    images = [path.name for path in results.iterdir() if path.suffix in (".jpg", ".png")]
    assert [name for name in images if f"]({name})" not in page] == []


def test_results_are_small(results: Path) -> None:
    assert sum(path.stat().st_size for path in results.iterdir()) < 1_000_000
