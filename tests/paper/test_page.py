"""The results page: each result becomes a table and a sentence, also with missing rows or values."""

from pathlib import Path
from typing import Any

import pytest

from blocknerf.files import format_json
from tests.benchmarks.paper.page import COLUMNS, FIGURES, NOT_YET, document, fill_page

POSES = {"centimeters_before": 9.8, "degrees_before": 0.21, "centimeters": 2.3, "degrees": 0.04}
CELL = {"psnr": 20.0, "ssim": 0.7, "parameters": 1000, "steps": 600}
ROWS: dict[str, list[dict[str, Any]]] = {
    "table1": [
        {"name": "full", "psnr": 24.0, "below_full": 0.0, "behind_cars": 21.0, **POSES},
        {"name": "no_exposure", "psnr": 23.0, "below_full": 1.0, "behind_cars": 20.5},
        {"name": "no_masks", "psnr": 23.5, "below_full": 0.5, "behind_cars": 15.0},
        {"name": "robust", "psnr": 23.75, "below_full": 0.25, "behind_cars": 18.0},
        {"name": "full_thrice", "psnr": 24.5, "below_full": -0.5, "centimeters": 1.2, "degrees": 0.03},
    ],
    "table2": [
        {"blocks": 1, "equal_size": CELL, "equal_total": CELL | {"psnr": 22.0}},
        {"blocks": 2, "equal_size": CELL | {"psnr": 21.5}, "equal_total": CELL | {"psnr": 21.75}},
    ],
    "table3": [
        {"name": "nearest", "psnr": 20.0, "temporal": 1.0, "peak": 3.0},
        {"name": "other", "psnr": 21.0, "temporal": 2.0, "peak": 1.0},
    ],
    "real": [
        {"name": "adjusted", "psnr": 22.0, "centimeters": 0.0},
        {"name": "raw", "psnr": 20.0, "centimeters": 12.0},
        {"name": "raw_refined", "psnr": 21.0, "centimeters": 5.0, "gap_recovered": 0.5},
        {"name": "raw_refined_thrice", "psnr": 21.5, "centimeters": 4.0, "gap_recovered": 0.75},
    ],
    "matching": [
        {"name": "unmatched", "difference": 0.1, "maximum": 0.2, "overlaps": [0.0, 0.2]},
        {"name": "matched", "difference": 0.02, "maximum": 0.03, "overlaps": [0.01, 0.03], "ratio": 5.0}
        | {"same_segment": 0.03, "halfway": 0.04, "halfway_maximum": 0.05},
    ],
}
BEHIND = " Behind moving cars: 21.00 dB with masks, 15.00 dB without masks, 18.00 dB with the trimmed loss."
FINDINGS = {
    "table1": "Worth: exposure 1.00 dB, masks 0.50 dB. Without masks the trimmed loss is 0.25 dB below full."
    f"{BEHIND} Pose error: 9.8 cm and 0.21 degrees before, 2.3 cm and 0.04 degrees after refinement,"
    " 1.2 cm and 0.03 degrees in three rounds.",
    "table2": "Gain per doubling of blocks: at equal size +1.50 dB; at equal total -0.25 dB.",
    "table3": "Best on images: `other`; least temporal change: `nearest`.",
    "real": "Refinement in one round recovers 50% of the 2.00 dB between raw and adjusted poses, and brings the poses"
    " from 12.0 cm to 5.0 cm. Refinement in three rounds recovers 75% of the 2.00 dB between raw and adjusted"
    " poses, and brings the poses from 12.0 cm to 4.0 cm.",
    "matching": "Matching reduces the difference by a factor of 5.0; halfway between two presets it is 0.040;"
    " unmatched blocks with codes of the same segment differ by 0.030.",
}
LINES = {
    "table1": "| no_masks | - | 0.500 | 15.00 | 23.50 | - | - | - |",
    "table2": "| 2 | 21.50 | 0.700 | 1000 | 21.75 | 0.700 | 1000 | 600 |",
    "table3": "| other | 21.00 | - | - | 2.000 | 1.000 |",
    "real": "| raw_refined | 21.00 | - | 0.500 | 5.000 | - |",
    "matching": "| matched | 0.020 | 0.030 | 5.000 | 0.030 | 0.040 | 0.050 |",
}


def result(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {"command": "python -m x", "commit": "a" * 40, "seeds": [0], "settings": {}, "rows": rows} | changes


def page_of(name: str, rows: list[dict[str, Any]]) -> list[str]:
    return document(name, result(rows)).splitlines()


@pytest.mark.parametrize("name", COLUMNS)
def test_every_result_is_a_table_and_a_sentence(name: str) -> None:
    lines = page_of(name, ROWS[name])
    assert lines[0] == f"| {' | '.join(COLUMNS[name].values())} |"
    assert LINES[name] in lines
    assert lines[-3:] == [FINDINGS[name], "", f"`python -m x` at commit `{'a' * 40}`."]


def test_missing_rows_are_not_mentioned() -> None:
    assert "Worth" not in document("table1", result(ROWS["table1"][1:]))
    assert page_of("table1", ROWS["table1"][:1])[-3].startswith("Pose error: 9.8 cm")
    assert "Refinement" not in document("real", result(ROWS["real"][1:]))
    minimal = [ROWS["matching"][0], {"name": "matched", "difference": 0.02, "maximum": 0.03, "ratio": 5.0}]
    assert page_of("matching", minimal)[-3] == "Matching reduces the difference by a factor of 5.0."


def test_missing_values_are_not_mentioned() -> None:
    rows = [row | {"behind_cars": None} for row in ROWS["table1"]]
    assert page_of("table1", rows)[-3] == FINDINGS["table1"].replace(BEHIND, "")
    same = [row | {"psnr": 20.0, "gap_recovered": None} for row in ROWS["real"]]
    assert page_of("real", same)[-3].startswith(
        "Refinement in one round brings the poses from 12.0 cm to 5.0 cm. Refinement in three rounds brings "
    )


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_below_their_table(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.json").write_text(format_json(result(ROWS[name])))
    page = f"<!-- {name} -->\n{NOT_YET}\n<!-- /{name} -->\n"
    file, caption = FIGURES[name]
    assert file not in fill_page(page, tmp_path)
    (tmp_path / file).write_bytes(b"a figure")
    assert f"\n\n![{caption}]({file})\n\n*{caption}*\n<!-- /{name} -->" in fill_page(page, tmp_path)
