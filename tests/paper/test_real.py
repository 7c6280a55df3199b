"""The ablation on a real street with few steps, and the recovered gap between raw and adjusted poses."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.paper.real import ROWS, Experiment, run_table, table


@pytest.fixture
def street(tmp_path: Path, real_captures: Path) -> Path:
    """A street with every third image: equally long, but faster to read."""
    source, folder = real_captures / "street_kitti0005", tmp_path / "street_kitti0005"
    folder.mkdir()
    document = json.loads((source / "transforms.json").read_text())
    document["frames"] = document["frames"][::3]
    (folder / "transforms.json").write_text(json.dumps(document))
    for entry in source.iterdir():
        if entry.name != "transforms.json":
            (folder / entry.name).symlink_to(entry)
    return folder


def test_raw_poses_are_refined(tmp_path: Path, street: Path) -> None:
    experiment = Experiment(capture=street, steps=6, pose_segment_length=3.0, block=1, downscale=8, threads=1)
    rows = {row["name"]: row for row in run_table(experiment, ["adjusted", "raw", "raw_refined"], [0], tmp_path)}
    assert rows["adjusted"]["centimeters"] == pytest.approx(0.0, abs=1e-3)
    assert rows["raw"]["centimeters"] > 3.0
    assert rows["raw_refined"]["centimeters"] != rows["raw"]["centimeters"]
    assert "tmp" not in str(experiment.settings)


def test_the_gap_is_computed_per_seed() -> None:
    scores = {"adjusted": [22.0, 23.0], "raw": [20.0, 21.0], "raw_refined": [21.0, 22.5]}
    rows = table({name: [{"psnr": value} for value in values] for name, values in scores.items()})
    assert rows[2]["gap_recovered_seeds"] == [0.5, 0.75]
    assert all("gap_recovered" not in row for row in rows[:2])
    same = table({name: [{"psnr": 20.0}] for name in scores})
    assert same[2]["gap_recovered"] is None


def test_rows_match_their_names() -> None:
    assert [name for name, row in ROWS.items() if row.raw] == ["raw", "raw_refined", "raw_refined_thrice"]
    assert [name for name, row in ROWS.items() if "pose_refinement" in row.options] == [
        "adjusted_refined",
        "raw_refined",
        "raw_refined_thrice",
    ]
    assert ROWS["no_appearance"].shape == {"appearance_dim": 0}
    assert set(ROWS["robust"].options) == {"robust_trim"}
