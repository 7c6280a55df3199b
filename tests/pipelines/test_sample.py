"""The job that generates a sample capture."""

from pathlib import Path

import pytest

from blocknerf.capture.transforms import read_transforms
from blocknerf.errors import OptionError, RunError
from pipelines.sample import sample

TINY = {"width": 16, "height": 9, "drives": 1, "positions": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_sample_is_deterministic(tmp_path: Path) -> None:
    out = tmp_path / "town"
    assert sample(out, **TINY) == out  # type: ignore[arg-type]
    assert len(read_transforms(out)) == 6
    assert contents(sample(tmp_path / "again", **TINY)) == contents(out)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "town"]


def test_a_sample_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "town"
    sample(out, **TINY)  # type: ignore[arg-type]
    (out / "images" / "mine.jpg").write_bytes(b"sand")
    before = contents(out)
    sample(out, **TINY)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"contains a sample capture with other options; give a new or empty folder$"):
        sample(out, **{**TINY, "positions": 1})  # type: ignore[arg-type]
    assert contents(out) == before


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "town").mkdir()
    assert len(read_transforms(sample(tmp_path / "town", **TINY))) == 6  # type: ignore[arg-type]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"sand")
    with pytest.raises(RunError, match=r"contains files that are not a sample capture; give a new or empty folder$"):
        sample(tmp_path, **TINY)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "town").write_text("mine")
    with pytest.raises(RunError, match="this is a file; give a folder for the sample"):
        sample(tmp_path / "town", **TINY)  # type: ignore[arg-type]
    assert (tmp_path / "town").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("positions", 0), ("jpeg_quality", 100), ("translation_noise", -1.0), ("exposure_jitter", 5.0)],
)
def test_an_option_out_of_range_is_refused_before_anything_is_written(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} {value:g} is out of range; give a number "):
        sample(tmp_path / "town", **{**TINY, name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "town").exists()


def test_dense_traffic_and_the_tour_cannot_be_combined(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--route tour crosses the oncoming lane, so it needs --traffic light"):
        sample(tmp_path / "out", traffic="dense", route="tour")
    assert list(tmp_path.iterdir()) == []
