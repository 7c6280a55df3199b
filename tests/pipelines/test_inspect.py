"""The inspect job shows a capture, what an import decides about it, and its blocks, without a run."""

from pathlib import Path

import pytest

from blocknerf.errors import CaptureError
from blocknerf.images import image_size
from blocknerf.importers.importer import ImportOptions
from pipelines.inspect import inspect
from tests.pipelines.test_ingest import write_photos


def test_it_prints_cameras_world_and_blocks_and_draws_a_map(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos = write_photos(tmp_path / "photos", frames=12)
    capture = inspect(photos, image=tmp_path / "map.png")
    output = capsys.readouterr().out
    assert len(capture) == 12
    assert image_size(tmp_path / "map.png")[0] > 500
    for part in ("6x4", "pinhole", "62°", "cameras: 11 units of unknown length across", "up: 0.0 degrees", "b000"):
        assert part in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "photos"]


def test_it_shows_the_decisions_of_the_import(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos = write_photos(tmp_path / "photos", frames=12, up=1)
    inspect(photos, image=tmp_path / "map.png")
    assert "the world was rotated so that +z is up" in capsys.readouterr().out
    kept = inspect(photos, image=tmp_path / "map.png", source=ImportOptions(up="z"))
    assert kept.notes == ()


def test_a_path_without_a_capture_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(CaptureError):
        inspect(tmp_path, image=tmp_path / "map.png")
    assert list(tmp_path.iterdir()) == []
