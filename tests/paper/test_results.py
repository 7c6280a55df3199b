"""A result file says how it was made, and rows say what was measured."""

import json
import re
from pathlib import Path

import pytest

from tests.benchmarks.paper import results
from tests.benchmarks.paper.page import NOT_YET, filled
from tests.benchmarks.paper.results import REPOSITORY, cell, commit, publish, summary, write_result


def test_a_summary_keeps_the_seeds() -> None:
    found = summary([{"psnr": 20.0, "lpips": None}, {"psnr": 22.0, "lpips": None}])
    assert found == {
        "psnr": 21.0, "psnr_spread": 1.4142, "psnr_seeds": [20.0, 22.0],
        "lpips": None, "lpips_spread": None, "lpips_seeds": [None, None],
    }  # fmt: skip
    assert summary([{"psnr": 20.0}])["psnr_spread"] is None


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"psnr": 23.456, "psnr_spread": 0.12}, "23.46 ± 0.12"),
        ({"psnr": 0.7891, "psnr_spread": None}, "0.789"),
        ({"psnr": 512}, "512"),
        ({"psnr": None}, "-"),
        ({}, "-"),
    ],
)
def test_a_cell_has_the_digits_that_mean_something(row: dict, text: str) -> None:
    assert cell(row, "psnr") == text


def write(path: Path, **changes: object) -> dict:
    facts = {
        "command": ["tests.benchmarks.paper.table3", str(REPOSITORY / "runs" / "city")],
        "commits": ["b" * 40, "a" * 40, "b" * 40],
        "seeds": [0, 1],
        "settings": {"steps": 60},
        "rows": [{"name": "nearest", "psnr": 20.0, "temporal": 1.0}, {"name": "other", "psnr": 21.0, "temporal": 2.0}],
    }
    write_result(path, **(facts | changes))
    return json.loads(path.read_text())


def test_a_result_file_has_no_path_of_this_machine(tmp_path: Path) -> None:
    found = write(tmp_path / "table3.json")
    assert found["command"] == "python -m tests.benchmarks.paper.table3 runs/city"
    assert found["commit"] == f"{'a' * 40}, {'b' * 40}"
    assert list(found) == ["command", "commit", "seeds", "settings", "rows"]


def test_what_is_published_names_the_judging_commit_and_prints_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "commit", lambda: "c" * 40)
    monkeypatch.setattr("sys.argv", ["table2.py", "--seeds", "0", "1", "--note", "two words"])
    rows, lines = [{"blocks": 1, "equal": {"psnr": 20.0}}], [{"blocks": 1, "column": "equal", "psnr": 20.0}]
    path, columns = tmp_path / "table2.json", ("blocks", "column", "psnr")
    publish("table2", path, columns, rows, lines, commits=["a" * 40], seeds=[0, 1], settings={"steps": 6})
    found = json.loads(path.read_text())
    assert found["command"] == "python -m tests.benchmarks.paper.table2 --seeds 0 1 --note 'two words'"
    assert found["commit"] == f"{'a' * 40}, {'c' * 40}"
    told = capsys.readouterr().out
    assert json.loads(told.splitlines()[-1]) == {"benchmark": "table2", "rows": rows}
    assert "column" in told
    assert "20.00" in told


def test_the_commit_is_this_one() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout to ask for its commit")
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", commit())


def test_the_page_is_written_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = "before\n<!-- table3 -->\nold\n<!-- /table3 -->\nbetween\n<!-- real -->\n<!-- /real -->\nafter\n"
    write(tmp_path / "table3.json")
    found = filled(page, tmp_path)
    assert filled(found, tmp_path) == found
    assert "old" not in found
    assert found.startswith("before\n<!-- table3 -->\n| weighting | PSNR |")
    assert "| nearest | 20.00 | - | - | 1.000 | - |" in found
    assert "Best on stills: `other`; calmest in motion: `nearest`." in found
    assert found.endswith(f"<!-- real -->\n{NOT_YET}\n<!-- /real -->\nafter\n")
    write(tmp_path / "table3.json", seeds=[5])
    assert filled(found, tmp_path) != found
