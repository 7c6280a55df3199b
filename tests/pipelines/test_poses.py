"""The job that computes poses: what it refuses, and real photos from start to end."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture.capture import check_files
from blocknerf.errors import CaptureError, RunError
from blocknerf.images import write_image
from blocknerf.importers.recognition import load_source
from blocknerf.sfm.alignment import fit_similarity
from blocknerf.sfm.options import SfmOptions
from pipelines.cli import main
from pipelines.poses import poses
from tests.tree import tree

SMALL = SfmOptions(features=2000, feature_image_size=800)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "photos" / "a.png", np.zeros((4, 4, 3), np.uint8))
    before = tree(tmp_path)
    with pytest.raises(RunError, match=r"photos: contains other files; give a new or empty folder$"):
        poses(tmp_path / "photos", out=tmp_path / "photos")
    with pytest.raises(RunError, match=r"a\.png: is a file, not a folder"):
        poses(tmp_path / "photos", out=tmp_path / "photos" / "a.png")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("options", [["--min-registered", "2"], ["--features", "-1"], ["--max-frames", "1"]])
def test_options_out_of_range_are_one_line(
    options: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    assert main(["poses", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), *options]) == 2
    assert f"{options[0]} {options[1]} is out of range" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_without_overlap_are_refused(tmp_path: Path) -> None:
    """COLMAP itself runs: it finds features in noise, and no matches."""
    pytest.importorskip("pycolmap", reason="needs the extra 'sfm'")
    generator = np.random.default_rng(0)
    for i in range(4):
        small = generator.integers(0, 256, (30, 40, 3), np.uint8)
        write_image(tmp_path / "photos" / f"{i}.png", np.kron(small, np.ones((4, 4, 1), np.uint8)))
    with pytest.raises(CaptureError, match=r"no two of the 4 images overlap enough to compute poses; take images that"):
        poses(tmp_path / "photos", out=tmp_path / "out", sfm=SMALL)
    assert not (tmp_path / "out" / "capture.json").exists()


def test_real_photos_become_a_metric_capture(
    tmp_path: Path, real_captures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycolmap", reason="needs the extra 'sfm'")
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(1, 9):
        shutil.copy2(real_captures / "photos_lund" / f"{i:02d}.jpg", photos)
    capture = poses(photos, out=tmp_path / "out", sfm=SMALL, threads=2)
    check_files(capture)
    assert len(capture) == 8
    assert capture.is_metric
    assert capture.frames[0].exposure == pytest.approx(0.03805, rel=1e-3)
    # The published poses of these photos; the scale depends on GPS, wrong by 5 m on a walk of 42 m.
    published = {Path(frame.name).name: frame.center for frame in load_source(real_captures / "street_lund").frames}
    centers = np.array([frame.center for frame in capture.frames])
    expected = np.array([published[frame.name] for frame in capture.frames])
    fit = fit_similarity(centers, expected)
    assert fit is not None
    assert np.linalg.norm(centers @ fit[:, :3].T + fit[:, 3] - expected, axis=1).max() < 0.5
    assert np.cbrt(np.linalg.det(fit[:, :3])) == pytest.approx(1.0, abs=0.4)
    assert 500.0 < capture.frames[0].intrinsics.fx < 900.0
    points = capture.read_sparse_points()
    assert points is not None
    assert len(points) > 50
    lines = capsys.readouterr().out
    assert "finding features: 0 of 8" in lines
    assert "8 of 8 images registered" in lines
    assert load_source(tmp_path / "out") == capture
    assert poses(photos, out=tmp_path / "out", sfm=SMALL) == capture
    assert "finding features" not in capsys.readouterr().out
