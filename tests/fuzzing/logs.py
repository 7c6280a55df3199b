"""Fuzz targets for driving logs: text, XML, tables, sweeps, Arrow files and TFRecords."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from blocknerf.capture.lidar import read_sweep
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.kitti_labels import read_tracking_labels, read_tracklets
from blocknerf.importers.recognition import load_source
from blocknerf.importers.tfrecord import parse_example, read_records
from tests.fuzzing.mutations import encoded, mutated_bytes, mutated_words
from tests.fuzzing.targets import Target, json_target, use_capture
from tests.importers.town_log import town_moments
from tests.importers.write_arrow_log import write_arrow_log
from tests.importers.write_kitti import write_odometry, write_raw
from tests.importers.write_mission_bay import example, framed
from tests.importers.write_nuscenes import write_nuscenes

WORDS = ("nan", "inf", "-1", "1e999", "1e-320", "0", "", "a", "9" * 400, "\n", ":", "2011-13-45 99:99:99", "R: 1")
XML_WORDS = ("<!ENTITY a 'b'>", "&a;", "<item>", "</item>", "<h>nan</h>", "<first_frame>1e9</first_frame>", "<poses/>")


def kitti_calibration(folder: Path) -> Target:
    return _kitti_raw(folder, "../calib_cam_to_cam.txt")


def kitti_fix(folder: Path) -> Target:
    return _kitti_raw(folder, "oxts/data/0000000001.txt")


def kitti_timestamps(folder: Path) -> Target:
    return _kitti_raw(folder, "image_02/timestamps.txt")


def kitti_tracklets(folder: Path) -> Target:
    path = write_raw(folder / "date", town_moments(), cameras=(2,)) / "tracklet_labels.xml"
    return _text(path, lambda: read_tracklets(path), XML_WORDS)


def kitti_tracking_labels(folder: Path) -> Target:
    path = write_raw(folder / "date", town_moments(), cameras=(2,), labels="tracking") / "label_02" / "0000.txt"
    return _text(path, lambda: read_tracking_labels(path), WORDS)


def kitti_poses(folder: Path) -> Target:
    sequence = write_odometry(folder / "05", town_moments(), cameras=(0,))
    return _text(
        sequence / "poses.txt", lambda: use_capture(load_source(sequence, work=folder / "work"), folder), WORDS
    )


def lidar_sweep(folder: Path) -> Target:
    path = folder / "a.pcd.bin"
    np.arange(50, dtype="<f4").tofile(path)

    def read() -> None:
        assert np.isfinite(read_sweep(path).positions).all()

    return Target(path=path, read=read, contents=mutated_bytes(path.read_bytes()))


def nuscenes_sample_data(folder: Path) -> Target:
    return _nuscenes(folder, "sample_data")


def nuscenes_calibration(folder: Path) -> Target:
    return _nuscenes(folder, "calibrated_sensor")


def nuscenes_annotations(folder: Path) -> Target:
    return _nuscenes(folder, "sample_annotation")


def arrow_poses(folder: Path) -> Target:
    return _arrow(folder, "ego_state_se3.arrow")


def arrow_boxes(folder: Path) -> Target:
    return _arrow(folder, "box_detections_se3.arrow")


def tfrecord(folder: Path) -> Target:
    """Bytes of a file, and of records with right checksums."""
    path, data = folder / "a_train.tfrecord", example({"mask": np.arange(300), "focal": np.ones(9, np.float32)})
    path.write_bytes(framed(data))

    def read() -> None:
        for record in read_records(path):
            for values in parse_example(record, str(path)).values():
                assert isinstance(values, bytes) or values.dtype in (np.float32, np.int64)

    return Target(path=path, read=read, contents=mutated_bytes(path.read_bytes()) | mutated_bytes(data).map(framed))


def _kitti_raw(folder: Path, file: str) -> Target:
    drive = write_raw(folder / "date", town_moments(), cameras=(2,), labels="none")
    return _text((drive / file).resolve(), lambda: use_capture(load_source(drive, work=folder / "work"), folder), WORDS)


def _text(path: Path, read: Callable[[], object], words: tuple[str, ...]) -> Target:
    contents: st.SearchStrategy[bytes] = mutated_words(path.read_text(), words).flatmap(encoded)
    return Target(path=path, read=read, contents=contents | contents | mutated_bytes(path.read_bytes()))


def _nuscenes(folder: Path, table: str) -> Target:
    root = write_nuscenes(folder / "nuscenes", town_moments())
    options = ImportOptions(cameras=("CAM_FRONT",))
    path = root / "v1.0-mini" / f"{table}.json"
    target = json_target(path, lambda: use_capture(load_source(root, options, folder / "work"), folder))
    return replace(target, source=root)


def _arrow(folder: Path, table: str) -> Target:
    log, options = (
        write_arrow_log(folder / "log", town_moments(), stored_poses=False),
        ImportOptions(cameras=("pcam_f0",)),
    )
    path = log / table
    contents = mutated_bytes(path.read_bytes())
    return Target(
        path=path, read=lambda: use_capture(load_source(log, options, folder / "work"), folder), contents=contents
    )


LOGS = (
    kitti_calibration,
    kitti_fix,
    kitti_timestamps,
    kitti_tracklets,
    kitti_tracking_labels,
    kitti_poses,
    lidar_sweep,
    nuscenes_sample_data,
    nuscenes_calibration,
    nuscenes_annotations,
    arrow_poses,
    arrow_boxes,
    tfrecord,
)
