"""nuScenes comes back from its tables as it was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from tests.importers.log_checks import check_box_mask, check_poses, check_sweeps, refusal
from tests.importers.town_log import FOCAL, HEIGHT, WIDTH, Moment
from tests.importers.write_nuscenes import CHANNELS, write_nuscenes


@pytest.mark.parametrize("cameras", [(), ("CAM_FRONT",)])
def test_key_frames(tmp_path: Path, moments: list[Moment], cameras: tuple[str, ...]) -> None:
    root = write_nuscenes(tmp_path / "nuscenes", moments)
    capture = load_source(root, ImportOptions(cameras=cameras), tmp_path / "work")
    names = {channel: name for name, channel in CHANNELS.items() if not cameras or channel in cameras}
    key_frames = [moments[0], moments[2]]
    expected = {
        f"samples/{channel}/scene-0061__{round(moment.timestamp * 1e6)}.jpg": moment.cameras[name]
        for channel, name in names.items()
        for moment in key_frames
    }
    check_poses(capture, expected)
    check_sweeps(capture, key_frames, np.zeros(3))
    lens = capture.frames[0].intrinsics
    np.testing.assert_allclose((lens.fx, lens.fy, lens.cx, lens.cy), (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2))
    assert {frame.segment for frame in capture.frames} == {"scene-0061"}
    assert [frame.timestamp for frame in capture.frames] == pytest.approx(
        [moment.timestamp for moment in key_frames for _ in names], abs=1e-6
    )
    assert capture.geo_origin == pytest.approx((1.28821, 103.784752, 0.0))
    assert not capture.raw_poses
    assert load_source(root / "v1.0-mini", ImportOptions(cameras=cameras), tmp_path / "work") == capture


def test_sweeps_and_interpolated_masks(tmp_path: Path, moments: list[Moment]) -> None:
    root = write_nuscenes(tmp_path / "nuscenes", moments)
    capture = load_source(root, ImportOptions(sweeps=True), tmp_path / "work")
    assert len(capture) == 3 * len(moments)
    check_sweeps(capture, moments, np.zeros(3))
    cameras = {channel: name for name, channel in CHANNELS.items()}
    for index, frame in enumerate(capture.frames):
        check_box_mask(capture, index, moments[index // 3], cameras[frame.camera])
    assert any("vehicle.car" in note and "barrier" not in note for note in capture.notes)


def test_several_scenes(tmp_path: Path, moments: list[Moment]) -> None:
    root = write_nuscenes(tmp_path / "nuscenes", moments, ("scene-0061", "scene-0103"))
    message = refusal(root, tmp_path / "work")
    assert message == f"{root}: holds 2 scenes; choose one with --scene: scene-0061, scene-0103"
    assert "has no scene scene-1" in refusal(root, tmp_path / "work", ImportOptions(scene="scene-1"))
    capture = load_source(root, ImportOptions(scene="scene-0103"), tmp_path / "work")
    assert {frame.segment for frame in capture.frames} == {"scene-0103"}


def _edit(table: str, change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "v1.0-mini" / f"{table}.json"
        rows = json.loads(path.read_text())
        change(rows)
        path.write_text(json.dumps(rows))

    return damage


def _truncate_sweep(root: Path) -> None:
    path = next(root.glob("samples/LIDAR_TOP/*"))
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "v1.0-mini" / "ego_pose.json").unlink(),
            "ego_pose.json: this nuScenes table file does not exist",
        ),
        (
            lambda root: (root / "v1.0-mini" / "sensor.json").write_text("[{"),
            "sensor.json: this nuScenes table file is not valid",
        ),
        (_edit("ego_pose", lambda rows: rows.pop(0)), "ego_pose.json: has no token 'ego/scene-0061/0'"),
        (_edit("ego_pose", lambda rows: rows[0].update(rotation=[0, 0, 0, 0])), "is no unit quaternion"),
        (_edit("sample_data", lambda rows: rows[0].pop("timestamp")), "sample_data.json: [0].timestamp is missing"),
        (_edit("sample_data", lambda rows: rows[0].update(filename="../x.jpg")), "leaves the capture's folder"),
        (_edit("sample_data", lambda rows: rows.clear()), "has no camera images of scene-0061"),
        (_edit("calibrated_sensor", lambda rows: rows[0]["camera_intrinsic"][0].__setitem__(0, 0.0)), "focal length"),
        (_edit("sample_annotation", lambda rows: rows[0].update(translation=[1e300, 0, 0])), "box 0 is not finite"),
        (lambda root: [path.unlink() for path in root.glob("samples/CAM_FRONT/*")], "(2 of 6 are missing)"),
        (_truncate_sweep, ".pcd.bin: cut short"),
    ],
)
def test_damage_is_refused(tmp_path: Path, moments: list[Moment], damage: Callable[[Path], Any], message: str) -> None:
    root = write_nuscenes(tmp_path / "nuscenes", moments)
    damage(root)
    assert message in refusal(root, tmp_path / "work")
