"""The page of results: each kind of row becomes a table and a sentence, whatever it lacks."""

from pathlib import Path
from typing import Any

import pytest

from blocknerf.files import format_json
from tests.benchmarks.paper.page import COLUMNS, NOT_YET, PICTURES, document, filled

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
        {"name": "seam_before", "difference": 0.1, "largest": 0.2, "seams": [0.0, 0.2]},
        {"name": "seam_after", "difference": 0.02, "largest": 0.03, "seams": [0.01, 0.03], "times_less": 5.0}
        | {"same_light": 0.03, "half_way": 0.04, "half_way_largest": 0.05},
    ],
}
BEHIND = " Behind moving cars: 21.00 dB with masks, 15.00 dB without, 18.00 dB without but trimmed."
SAID = {
    "table1": "Worth: exposure 1.00 dB, masks 0.50 dB. Without masks the trimmed loss is 0.25 dB below full."
    f"{BEHIND} Pose error: 9.8 cm and 0.21 degrees as given, 2.3 cm and 0.04 degrees refined,"
    " 1.2 cm and 0.03 degrees in three rounds.",
    "table2": "From each number of blocks to the next: at equal size +1.50 dB a step; at equal total -0.25 dB a step.",
    "table3": "Best on stills: `other`; calmest in motion: `nearest`.",
    "real": "Refinement in one round recovers 50% of the 2.00 dB between raw and adjusted poses, and brings the poses"
    " from 12.0 cm to 5.0 cm. Refinement in three rounds recovers 75% of the 2.00 dB between raw and adjusted"
    " poses, and brings the poses from 12.0 cm to 4.0 cm.",
    "matching": "Matching makes the difference 5.0 times less; half way from one light to another it is 0.040;"
    " where blocks learned one light, they show it 0.030 apart without matching.",
}
LINES = {
    "table1": "| no_masks | - | 0.500 | 15.00 | 23.50 | - | - | - |",
    "table2": "| 2 | 21.50 | 0.700 | 1000 | 21.75 | 0.700 | 1000 | 600 |",
    "table3": "| other | 21.00 | - | - | 2.000 | 1.000 |",
    "real": "| raw_refined | 21.00 | - | 0.500 | 5.000 | - |",
    "matching": "| seam_after | 0.020 | 0.030 | 5.000 | 0.030 | 0.040 | 0.050 |",
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
    assert lines[-3:] == [SAID[name], "", f"`python -m x` at commit `{'a' * 40}`."]


def test_rows_that_were_not_run_are_not_spoken_of() -> None:
    assert "Worth" not in document("table1", result(ROWS["table1"][1:]))
    assert page_of("table1", ROWS["table1"][:1])[-3].startswith("Pose error: 9.8 cm")
    assert "BlockAlignment" not in document("real", result(ROWS["real"][1:]))
    one_light = [ROWS["matching"][0], {"name": "seam_after", "difference": 0.02, "largest": 0.03, "times_less": 5.0}]
    assert page_of("matching", one_light)[-3] == "Matching makes the difference 5.0 times less."


def test_what_could_not_be_measured_is_left_out_of_the_sentence() -> None:
    rows = [row | {"behind_cars": None} for row in ROWS["table1"]]
    assert page_of("table1", rows)[-3] == SAID["table1"].replace(BEHIND, "")
    same = [row | {"psnr": 20.0, "gap_recovered": None} for row in ROWS["real"]]
    assert page_of("real", same)[-3].startswith(
        "Refinement in one round brings the poses from 12.0 cm to 5.0 cm. Refinement in three rounds brings "
    )


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_shown_below_its_table(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.json").write_text(format_json(result(ROWS[name])))
    page = f"<!-- {name} -->\n{NOT_YET}\n<!-- /{name} -->\n"
    file, caption = PICTURES[name]
    assert file not in filled(page, tmp_path)
    (tmp_path / file).write_bytes(b"stands for a picture")
    assert f"\n\n![{caption}]({file})\n\n*{caption}*\n<!-- /{name} -->" in filled(page, tmp_path)
