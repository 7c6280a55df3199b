"""Scenes with published scores are trained by the jobs, and scored on whole images with the mean code."""

import json
import sys
from pathlib import Path

import pytest

from blocknerf.town.views import SampleSpec
from tests.benchmarks import published
from tests.benchmarks.paper.town import sample_capture


@pytest.fixture
def data(tmp_path: Path, town_spec: SampleSpec, monkeypatch: pytest.MonkeyPatch, known_commit: str) -> Path:
    """A folder with a small capture in place of a published scene."""
    sample_capture(tmp_path / "data" / "llff_fern", town_spec)
    monkeypatch.setattr(published, "commit", lambda: known_commit)
    return tmp_path / "data"


def test_a_scene_is_scored_next_to_the_published_values(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "published.json"
    words = ["--scenes", "llff_fern", "--steps", "2", "--seeds", "0", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["published", *words, "--data", str(data), "--out", str(out)])
    assert published.main() == 0
    ours, *others = json.loads(out.read_text())["rows"]
    assert ours["by"] == "blocknerf"
    assert len(ours["psnr_seeds"]) == 2
    assert ours["psnr"] == pytest.approx(sum(ours["psnr_seeds"]) / 2, abs=1e-3)
    assert 0.0 < ours["ssim"] < 1.0
    assert [row["psnr"] for row in others] == [26.17, 26.29, 25.41]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == [ours, *others]


def test_a_missing_scene_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["published", "--scenes", "lego400", "--data", str(tmp_path)])
    assert published.main() == 2
    assert capsys.readouterr().err == (
        f"published: error: {tmp_path / 'lego400'}: no such capture; give the folder of the scenes with --data\n"
    )
