"""Writer of nuScenes' layout from a drive through the sample town."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from tests.importers.town_log import CAR_SIZE, FOCAL, HEIGHT, LIDAR_IN_VEHICLE, WIDTH, Moment

CHANNELS = {"left": "CAM_FRONT_LEFT", "forward": "CAM_FRONT", "right": "CAM_FRONT_RIGHT"}


def write_nuscenes(root: Path, moments: list[Moment], scenes: tuple[str, ...] = ("scene-0061",)) -> Path:
    """Write scenes with the same images; the second moment of each is not a key frame."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("sample", "sample_data", "ego_pose", "scene")}
    tables |= {"log": [{"token": "log0", "logfile": "n015", "location": "singapore-onenorth", "vehicle": "n015"}]}
    tables |= {"sensor": [], "calibrated_sensor": [], "sample_annotation": [], "instance": [], "visibility": []}
    tables |= {"category": [{"token": name, "name": name} for name in ("vehicle.car", "movable_object.barrier")]}
    mounts = {name: np.linalg.inv(moments[0].vehicle) @ moments[0].cameras[name] for name in CHANNELS}
    for name, mount in mounts.items():
        _add_sensor(tables, CHANNELS[name], "camera", mount)
    _add_sensor(tables, "LIDAR_TOP", "lidar", LIDAR_IN_VEHICLE)
    for scene in scenes:
        samples = [moment for i, moment in enumerate(moments) if i != 1]
        ends = {"first_sample_token": f"{scene}/0", "last_sample_token": f"{scene}/{len(moments) - 1}"}
        tables["scene"].append({"token": scene, "name": scene, "log_token": "log0", **ends})
        for i, moment in enumerate(moments):
            _add_moment(tables, root, scene, i, moment, is_key_frame=moment in samples)
        _add_boxes(tables, scene, [(i, m) for i, m in enumerate(moments) if m in samples])
    (root / "v1.0-mini").mkdir(parents=True)
    for name, rows in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    return root


def _add_sensor(tables: dict[str, list], channel: str, modality: str, mount: np.ndarray) -> None:
    tables["sensor"].append({"token": f"sensor-{channel}", "channel": channel, "modality": modality})
    matrix = [[FOCAL, 0.0, WIDTH / 2 - 0.5], [0.0, FOCAL, HEIGHT / 2 - 0.5], [0.0, 0.0, 1.0]]
    row = {"token": channel, "sensor_token": f"sensor-{channel}", **_pose(mount)}
    tables["calibrated_sensor"].append({**row, "camera_intrinsic": matrix if modality == "camera" else []})


def _add_moment(
    tables: dict[str, list], root: Path, scene: str, number: int, moment: Moment, *, is_key_frame: bool
) -> None:
    time = round(moment.timestamp * 1e6)
    sample = f"{scene}/{number if is_key_frame else number + 1}"
    if is_key_frame:
        tables["sample"].append({"token": sample, "timestamp": time, "scene_token": scene, "prev": "", "next": ""})
    folder = "samples" if is_key_frame else "sweeps"
    tables["ego_pose"].append({"token": f"ego/{scene}/{number}", "timestamp": time, **_pose(moment.vehicle)})
    files = {channel: (name, f"{folder}/{channel}/{scene}__{time}.jpg") for name, channel in CHANNELS.items()}
    files["LIDAR_TOP"] = ("", f"{folder}/LIDAR_TOP/{scene}__{time}.pcd.bin")
    for channel, (camera, file) in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        row = {"token": f"{scene}/{number}/{channel}", "sample_token": sample, "timestamp": time, "filename": file}
        row |= {"ego_pose_token": f"ego/{scene}/{number}", "calibrated_sensor_token": channel}
        row |= {"is_key_frame": is_key_frame, "fileformat": "jpg" if camera else "pcd", "prev": "", "next": ""}
        size = {"width": WIDTH, "height": HEIGHT} if camera else {"width": 0, "height": 0}
        tables["sample_data"].append({**row, **size})
        if camera:
            Image.fromarray(moment.image(camera)).save(root / file, quality=90)
        else:
            local = (moment.points - moment.lidar[:3, 3]) @ moment.lidar[:3, :3]
            np.column_stack([local, np.ones((len(local), 2))]).astype("<f4").tofile(root / file)


def _add_boxes(tables: dict[str, list], scene: str, moments: list[tuple[int, Moment]]) -> None:
    length, width, height = CAR_SIZE
    count = min(len(moment.cars) for _, moment in moments)
    for number in range(count + 1):
        category = "vehicle.car" if number < count else "movable_object.barrier"
        tables["instance"].append({"token": f"{scene}/{number}", "category_token": category})
        for i, moment in moments:
            ahead = moment.vehicle.copy()
            ahead[:3, 3] += 6.0 * ahead[:3, 0]
            row = {"token": f"{scene}/{i}/{number}", "sample_token": f"{scene}/{i}", "visibility_token": "4"}
            row |= {"instance_token": f"{scene}/{number}", "size": [width, length, height]}
            row |= _pose(moment.cars[number] if number < count else ahead)
            tables["sample_annotation"].append(row)


def _pose(matrix: np.ndarray) -> dict[str, list[float]]:
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return {"translation": matrix[:3, 3].tolist(), "rotation": [float(w), float(x), float(y), float(z)]}
