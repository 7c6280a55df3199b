"""Result files record how they were made, and their rows the measurements."""

import json
import re
from pathlib import Path

import pytest

from tests.benchmarks.paper import results
from tests.benchmarks.paper.page import NOT_YET, fill_page
from tests.benchmarks.paper.results import REPOSITORY, cell, commit, publish, summary, write_result


def test_a_summary_lists_all_seeds() -> None:
    result = summary([{"psnr": 20.0, "lpips": None}, {"psnr": 22.0, "lpips": None}])
    assert result == {
        "psnr": 21.0, "psnr_std": 1.4142, "psnr_seeds": [20.0, 22.0],
        "lpips": None, "lpips_std": None, "lpips_seeds": [None, None],
    }  # fmt: skip
    assert summary([{"psnr": 20.0}])["psnr_std"] is None


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"psnr": 23.456, "psnr_std": 0.12}, "23.46 ± 0.12"),
        ({"psnr": 0.7891, "psnr_std": None}, "0.789"),
        ({"psnr": 512}, "512"),
        ({"psnr": None}, "-"),
        ({}, "-"),
    ],
)
def test_cells_have_significant_digits(row: dict, text: str) -> None:
    assert cell(row, "psnr") == text


def write(path: Path, **changes: object) -> dict:
    fields = {
        "command": ["tests.benchmarks.paper.table3", str(REPOSITORY / "runs" / "city")],
        "commits": ["b" * 40, "a" * 40, "b" * 40],
        "seeds": [0, 1],
        "settings": {"steps": 60},
        "rows": [{"name": "nearest", "psnr": 20.0, "temporal": 1.0}, {"name": "other", "psnr": 21.0, "temporal": 2.0}],
    }
    write_result(path, **(fields | changes))
    return json.loads(path.read_text())


def test_result_files_have_relative_paths(tmp_path: Path) -> None:
    result = write(tmp_path / "table3.json")
    assert result["command"] == "python -m tests.benchmarks.paper.table3 runs/city"
    assert result["commit"] == f"{'a' * 40}, {'b' * 40}"
    assert list(result) == ["command", "commit", "seeds", "settings", "rows"]


def test_published_results_name_the_evaluating_commit_and_print_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "commit", lambda: "c" * 40)
    monkeypatch.setattr("sys.argv", ["table2.py", "--seeds", "0", "1", "--note", "two words"])
    rows, lines = [{"blocks": 1, "equal": {"psnr": 20.0}}], [{"blocks": 1, "column": "equal", "psnr": 20.0}]
    path, columns = tmp_path / "table2.json", ("blocks", "column", "psnr")
    publish("table2", path, columns, rows, lines, commits=["a" * 40], seeds=[0, 1], settings={"steps": 6})
    result = json.loads(path.read_text())
    assert result["command"] == "python -m tests.benchmarks.paper.table2 --seeds 0 1 --note 'two words'"
    assert result["commit"] == f"{'a' * 40}, {'c' * 40}"
    output = capsys.readouterr().out
    assert json.loads(output.splitlines()[-1]) == {"benchmark": "table2", "rows": rows}
    assert "column" in output
    assert "20.00" in output


def test_the_commit_is_a_hash() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a git checkout to ask for its commit")
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", commit())


def test_the_page_is_written_between_its_marks_only(tmp_path: Path) -> None:
    page = "before\n<!-- table3 -->\nold\n<!-- /table3 -->\nbetween\n<!-- real -->\n<!-- /real -->\nafter\n"
    write(tmp_path / "table3.json")
    result = fill_page(page, tmp_path)
    assert fill_page(result, tmp_path) == result
    assert "old" not in result
    assert result.startswith("before\n<!-- table3 -->\n| weighting | PSNR |")
    assert "| nearest | 20.00 | - | - | 1.000 | - |" in result
    assert "Best on images: `other`; least temporal change: `nearest`." in result
    assert result.endswith(f"<!-- real -->\n{NOT_YET}\n<!-- /real -->\nafter\n")
    write(tmp_path / "table3.json", seeds=[5])
    assert fill_page(result, tmp_path) != result
