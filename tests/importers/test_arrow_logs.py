"""Logs of 123D come back from their Arrow tables as they were written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from tests.importers.log_checks import check_box_mask, check_poses, check_sweeps, refusal
from tests.importers.town_log import FOCAL, HEIGHT, TOWN, WIDTH, Moment

pytest.importorskip("pyarrow", reason="needs pyarrow, which reads the logs of 123D")

from tests.importers import write_arrow_log as writer
from tests.importers.write_arrow_log import CAMERAS, write_arrow_log


def _expected(moments: list[Moment]) -> dict[str, np.ndarray]:
    return {f"{name}/{round(m.timestamp * 1e6)}": m.cameras[town] for town, name in CAMERAS.items() for m in moments}


@pytest.mark.parametrize("stored_poses", [True, False])
def test_a_log(tmp_path: Path, moments: list[Moment], stored_poses: bool) -> None:
    log = write_arrow_log(tmp_path / "val" / "log-7", moments, stored_poses=stored_poses)
    capture = load_source(log, ImportOptions(), tmp_path / "work")
    check_poses(capture, _expected(moments), tolerance=2e-6)
    check_sweeps(capture, moments, np.zeros(3))
    lens = capture.frames[0].intrinsics
    np.testing.assert_allclose((lens.fx, lens.fy, lens.cx, lens.cy), (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2))
    towns = {name: town for town, name in CAMERAS.items()}
    for index, frame in enumerate(capture.frames):
        moment = next(m for m in moments if abs(m.timestamp - (frame.timestamp or 0.0)) < 1e-3)
        assert frame.segment == "log-7"
        assert frame.exposure == pytest.approx(moment.exposures[towns[frame.camera]], rel=1e-6)
        assert np.array_equal(capture.read_image(index), moment.image(towns[frame.camera]))
        check_box_mask(capture, index, moment, towns[frame.camera])
    assert load_source(tmp_path / "val", work=tmp_path / "work") == capture


def test_paths_need_the_folder_of_the_images(tmp_path: Path, moments: list[Moment]) -> None:
    log = write_arrow_log(tmp_path / "log", moments, paths=True)
    assert refusal(log, tmp_path / "work").endswith("give their folder by --images")
    capture = load_source(log, ImportOptions(images=TOWN / "images"), tmp_path / "work")
    assert capture.image_dir == TOWN / "images"
    missing = refusal(log, tmp_path / "work", ImportOptions(images=tmp_path))
    assert f"({len(capture)} of {len(capture)} are missing)" in missing


def test_map_coordinates_move_to_the_origin(tmp_path: Path, moments: list[Moment]) -> None:
    log = write_arrow_log(tmp_path / "log", moments, offset=(500_000.0, 4_100_000.0, 0.0))
    capture = load_source(log, ImportOptions(cameras=("pcam_f0",)), tmp_path / "work")
    check_poses(capture, {k: v for k, v in _expected(moments).items() if k.startswith("pcam_f0")}, tolerance=1e-5)
    check_sweeps(capture, moments, np.zeros(3))
    assert any("from map coordinates" in note for note in capture.notes), capture.notes


def _rewrite(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the metadata and columns that the writer puts into one table."""
    write = writer._write

    def changed(path: Path, metadata: dict[str, Any], columns: dict[str, Any]) -> None:
        if path.stem == name:
            change(metadata)
        write(path, metadata, columns)

    monkeypatch.setattr(writer, "_write", changed)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("camera.pcam_f0", lambda data: data.update(camera_model="fisheye_mei"), "lens model 'fisheye_mei' is not"),
        ("camera.pcam_f0", lambda data: data.pop("width"), "missing required field `width`"),
        ("camera.pcam_f0", lambda data: data.update(intrinsics=[1.0, 1.0, 2.0, 2.0, 0.5]), "without skew"),
        ("camera.pcam_f0", lambda data: data.update(camera_to_imu_se3=[0.0] * 7), "is no unit quaternion"),
        ("sync", lambda data: data.clear(), "sync.arrow: is not a table of 123D"),
    ],
)
def test_wrong_metadata_are_refused(
    tmp_path: Path, moments: list[Moment], monkeypatch: pytest.MonkeyPatch, table: str, change: Any, message: str
) -> None:
    _rewrite(monkeypatch, table, change)
    log = write_arrow_log(tmp_path / "log", moments, stored_poses=False)
    assert message in refusal(log, tmp_path / "work", ImportOptions(cameras=("pcam_f0",)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda log: (log / "ego_state_se3.arrow").unlink(), "ego_state_se3.arrow: does not exist"),
        (lambda log: [path.unlink() for path in log.glob("camera.*")], "convert the log with its cameras"),
        (lambda log: _cut(log / "camera.pcam_f0.arrow"), "camera.pcam_f0.arrow: is not"),
        (lambda log: _cut(log / "lidar.lidar_merged.arrow"), "lidar.lidar_merged.arrow: is not a complete Arrow file"),
        (lambda log: (log / "box_detections_se3.arrow").write_bytes(b""), "box_detections_se3.arrow: is not"),
    ],
)
def test_damage_is_refused(tmp_path: Path, moments: list[Moment], damage: Callable[[Path], Any], message: str) -> None:
    log = write_arrow_log(tmp_path / "log", moments)
    damage(log)
    assert message in refusal(log, tmp_path / "work")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def test_a_second_import_writes_no_image_or_mask_again(tmp_path: Path, moments: list[Moment]) -> None:
    log = write_arrow_log(tmp_path / "log", moments)
    load_source(log, work=tmp_path / "work")
    images = [path for name in ("images", "masks") for path in sorted((tmp_path / "work" / name).rglob("*.*g"))]
    before = [path.stat().st_mtime_ns for path in images]
    shutil.rmtree(tmp_path / "work" / "lidar")
    load_source(log, work=tmp_path / "work")
    assert [path.stat().st_mtime_ns for path in images] == before
