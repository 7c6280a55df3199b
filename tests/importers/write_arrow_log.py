"""Writer of the tables of a 123D log from a drive through the sample town, as py123d 0.7 names and types them."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from tests.importers.town_log import CAR_SIZE, FOCAL, HEIGHT, WIDTH, Moment

CAMERAS = {"left": "pcam_l0", "forward": "pcam_f0", "right": "pcam_r0"}
LABELS = "py123d.parser.registry.NuScenesBoxDetectionLabel"
CAR, BARRIER = 0, 18


def write_arrow_log(
    log: Path,
    moments: list[Moment],
    *,
    paths: bool = False,
    stored_poses: bool = True,
    offset: tuple[float, ...] = (0, 0, 0),
) -> Path:
    """Write a log; `paths` stores paths of images, `offset` moves the world as map coordinates do."""
    log.mkdir(parents=True)
    times = [round(moment.timestamp * 1e6) for moment in moments]
    sync = {"dataset": "nuscenes-mini", "split": "val", "log_name": log.name, "location": None, "version": "0.7.0"}
    _write(log / "sync.arrow", sync, {"timestamp_us": (pa.int64(), times)})
    ego = {"timestamp_us": (pa.int64(), times), "imu_se3": (_list(7), [_pose(m.vehicle, offset) for m in moments])}
    _write(log / "ego_state_se3.arrow", {"vehicle_name": "town"}, ego)
    for town_name, name in CAMERAS.items():
        mount = np.linalg.inv(moments[0].vehicle) @ moments[0].cameras[town_name]
        poses = [_pose(m.cameras[town_name], offset) if stored_poses else None for m in moments]
        images = [m.images[town_name] for m in moments]
        stored = (
            (pa.string(), [image.name for image in images])
            if paths
            else (pa.binary(), [i.read_bytes() for i in images])
        )
        gains = (pa.float32(), [m.exposures[town_name] for m in moments])
        columns = {"timestamp_us": (pa.int64(), times), "data": stored, "camera_to_global_se3": (_list(7), poses)}
        _write(log / f"camera.{name}.arrow", _camera(name, mount), {**columns, "exposure_factor": gains})
    _write_boxes(log / "box_detections_se3.arrow", moments, times, offset)
    points = [_points((m.points - m.vehicle[:3, 3]) @ m.vehicle[:3, :3]) for m in moments]
    lidar = {
        "timestamp_us": (pa.int64(), times),
        "end_timestamp_us": (pa.int64(), times),
        "data": (pa.binary(), points),
    }
    _write(log / "lidar.lidar_merged.arrow", {"0": {"lidar_name": "LIDAR_TOP"}}, lidar)
    return log


def _camera(name: str, mount: np.ndarray) -> dict[str, Any]:
    intrinsics = [FOCAL, FOCAL, WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5, 0.0]
    metadata = {"camera_model": "pinhole", "camera_name": name, "camera_id": 0, "intrinsics": intrinsics}
    metadata |= {"distortion": [0.0] * 5, "width": WIDTH, "height": HEIGHT, "camera_to_imu_se3": _pose(mount)}
    return {**metadata, "is_undistorted": True}


def _write_boxes(path: Path, moments: list[Moment], times: list[int], offset: tuple[float, ...]) -> None:
    boxes, labels = [], []
    for moment in moments:
        ahead = moment.vehicle.copy()
        ahead[:3, 3] += 6.0 * ahead[:3, 0]
        boxes.append([[*_pose(pose, offset), *CAR_SIZE] for pose in (*moment.cars, ahead)])
        labels.append([CAR] * len(moment.cars) + [BARRIER])
    columns = {"timestamp_us": (pa.int64(), times), "bounding_box_se3": (pa.list_(_list(10)), boxes)}
    _write(path, {"box_detection_label_class": LABELS}, {**columns, "label": (pa.list_(pa.uint16()), labels)})


def _write(path: Path, metadata: dict[str, Any], columns: dict[str, tuple[pa.DataType, list[Any]]]) -> None:
    schema = pa.schema([(f"{path.stem}.{name}", kind) for name, (kind, _) in columns.items()])
    schema = schema.with_metadata({b"metadata": msgspec.msgpack.encode(metadata)})
    batch = pa.record_batch([pa.array(v, kind) for kind, v in columns.values()], schema=schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)


def _points(points: np.ndarray) -> bytes:
    batch = pa.RecordBatch.from_pydict({axis: points[:, i].astype(np.float32) for i, axis in enumerate("xyz")})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _list(size: int) -> pa.DataType:
    return pa.list_(pa.float64(), size)


def _pose(matrix: np.ndarray, offset: tuple[float, ...] = (0, 0, 0)) -> list[float]:
    x, y, z, w = map(float, Rotation.from_matrix(matrix[:3, :3]).as_quat())
    return [*(matrix[:3, 3] + offset).tolist(), w, x, y, z]
