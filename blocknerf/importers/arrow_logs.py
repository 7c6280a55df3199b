"""Importer of driving logs that `py123d` (123D) has converted to Arrow: Argoverse 2, nuPlan, KITTI-360, Waymo and more.

Layout: `SPLIT/LOG/` with one table per sensor, such as `camera.pcam_f0.arrow`, `ego_state_se3.arrow`,
`lidar.lidar_merged.arrow` and `box_detections_se3.arrow`, and `sync.arrow`. Read as py123d 0.7 writes them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float32, Float64

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.lidar import LidarSweep
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.errors import CaptureError, error_context
from blocknerf.files import write_atomic
from blocknerf.importers.arrow_tables import (
    ARROW_ERRORS,
    Trajectory,
    pose_matrix,
    read_metadata,
    read_rows,
    read_trajectory,
    seconds,
)
from blocknerf.importers.box_masks import NO_BOXES, Boxes, box_corners, check_boxes, write_box_masks
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.importers.log_images import (
    CENTER,
    check_exist,
    choose_cameras,
    choose_scene,
    log_pose,
    quaternion_rotation,
)
from blocknerf.values import first_line

EGO, BOXES = "ego_state_se3", "box_detections_se3"
MAX_BOX_SECONDS = 0.06
"""Largest difference in time between an image and the boxes that mask it; labels come at 10 Hz or at 2 Hz."""
FAR = 1000.0
"""Coordinates farther from the origin are moved there; logs are often in map coordinates."""
MOVABLE_LABELS = {
    "AV2SensorBoxDetectionLabel": {0, 1, 2, 3, 5, 6, 9, 10, 11, *range(13, 20), *range(22, 30)},
    "GriffinBoxDetectionLabel": {0, 1, 2, 3, 4, 5},
    "KITTI360BoxDetectionLabel": {0, 2, 3, 4, 6, 7, 9, 14, 15, 17},
    "NuPlanBoxDetectionLabel": {0, 1, 2},
    "NuScenesBoxDetectionLabel": {*range(17), 19, 22},
    "NureasoningBoxDetectionLabel": {0, 1, 2, 6, 7, 8, 9, 10, 11},
    "PandasetBoxDetectionLabel": {0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 24, 25, 26},
    "PhysicalAIAVBoxDetectionLabel": set(range(12)),
    "WODMotionBoxDetectionLabel": {1, 2, 3},
    "WODPerceptionBoxDetectionLabel": {1, 2, 4},
}  # fmt: skip
"""Numbers of the classes that can move, by the name of py123d's enumeration; cones, signs and barriers are not."""


class _CameraMetadata(msgspec.Struct):
    camera_model: str
    width: int
    height: int
    camera_to_imu_se3: list[float]
    intrinsics: list[float] | None = None
    """fx, fy, cx, cy, skew; other values for other models."""
    distortion: list[float] | None = None
    """k1, k2, p1, p2, k3."""
    is_undistorted: bool = False


class _LogMetadata(msgspec.Struct):
    dataset: str
    log_name: str


class _BoxMetadata(msgspec.Struct):
    box_detection_label_class: str


def read_arrow_log(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Return a log; images and points inside its tables are written to `work` once.

    Raises:
        CaptureError: pyarrow is not installed, or a table or image is missing, broken or of another kind.
    """
    log = _log_folder(path, options)
    metadata = read_metadata(log / "sync.arrow", _LogMetadata)
    tables = {table.stem.partition(".")[2]: table for table in sorted(log.glob("camera.*.arrow"))}
    cameras = {name: read_metadata(table, _CameraMetadata) for name, table in tables.items()}
    pinholes = [name for name, camera in cameras.items() if camera.camera_model == "pinhole"]
    names = choose_cameras(list(cameras), options.cameras, pinholes, log)
    if not names:
        raise CaptureError(f"{log}: has no table camera.*.arrow of a pinhole camera; convert the log with its cameras")
    trajectory = read_trajectory(log / f"{EGO}.arrow")
    frames = [frame for name in names for frame in _frames(tables[name], cameras[name], trajectory, work)]
    frames.sort(key=lambda frame: (frame.timestamp or 0.0, frame.camera))
    image_dir, frames = _locate(frames, options.images, log, work)
    sweeps, notes = _sweeps(log, trajectory, work)
    frames, mask_notes = _mask(log, frames, work)
    skipped = [name for name in cameras if name not in names and name not in pinholes]
    notes += [f"cameras with other lens models are left out: {', '.join(skipped)}"] if skipped else []
    frames, sweeps, move_notes = _near_origin(frames, sweeps)
    with error_context(str(log)):
        capture = Capture(
            image_dir=image_dir.resolve(),
            mask_dir=work.resolve() if any(frame.mask for frame in frames) else None,
            points_dir=work.resolve() if sweeps else None,
            frames=tuple(replace(frame, segment=metadata.log_name) for frame in frames),
            lidar_sweeps=tuple(sweeps),
            notes=(*notes, *mask_notes, *move_notes),
            is_metric=True,
            source=f"123D {metadata.dataset} {metadata.log_name}",
        )
    check_files(capture)
    return capture


def _is_arrow_log(path: Path) -> bool:
    return path.is_dir() and ((path / "sync.arrow").is_file() or any(path.glob("*/sync.arrow")))


def _log_folder(path: Path, options: ImportOptions) -> Path:
    if (path / "sync.arrow").is_file():
        return path
    logs = sorted(file.parent.name for file in path.glob("*/sync.arrow"))
    return path / choose_scene(logs, options.scene, path, "log")


def _frames(table: Path, camera: _CameraMetadata, trajectory: Trajectory, work: Path) -> list[Frame]:
    """Return the frames of one camera; an image in the table is written to `work`/images."""
    lens, mount = _lens(camera, table), pose_matrix(camera.camera_to_imu_se3, f"{table}: camera_to_imu_se3")
    name, frames = table.stem.partition(".")[2], []
    for i, row in enumerate(read_rows(table, ("timestamp_us", "data", "camera_to_global_se3", "exposure_factor"))):
        time, stored, gain = seconds(row["timestamp_us"], table), row["camera_to_global_se3"], row["exposure_factor"]
        if row["data"] is None:
            continue
        pose = trajectory.at(time) @ mount if stored is None else pose_matrix(stored, f"{table}: row {i}")
        image = _image(row["data"], f"{name}/{row['timestamp_us']}", table, work)
        frames.append(
            Frame(
                name=f"{name}/{row['timestamp_us']}",
                image=image,
                intrinsics=lens,
                camera_to_world=log_pose(pose, f"{table}: row {i}"),
                segment="",
                camera=name,
                timestamp=time,
                exposure=gain if gain is not None and gain > 0 else None,
            )
        )
    return frames


def _image(data: Any, name: str, table: Path, work: Path) -> str:
    """Return the path of an image, after writing it if the table holds it."""
    if isinstance(data, str):
        return data
    if not isinstance(data, bytes):
        raise CaptureError(f"{table}: its images are in an MP4; convert the log with camera_store_option=jpeg_binary")
    suffix = ".png" if data.startswith(b"\x89PNG") else ".jpg"
    path = work / "images" / f"{name}{suffix}"
    if not path.is_file() or path.stat().st_size != len(data):
        write_atomic(path, data)
    return f"{name}{suffix}"


def _locate(frames: list[Frame], images: Path | None, log: Path, work: Path) -> tuple[Path, list[Frame]]:
    """Return the folder of the images: those written to `work`, or the user's copy of the data set."""
    if not frames:
        raise CaptureError(f"{log}: its cameras have no images; convert the log with its cameras")
    if (work / "images" / frames[0].image).is_file():
        return work / "images", frames
    if images is None:
        raise CaptureError(
            f"{log}: holds only paths of images, such as {frames[0].image}; give their folder by --images"
        )
    check_exist(images, [frame.image for frame in frames], "image")
    return images, frames


def _lens(camera: _CameraMetadata, table: Path) -> Intrinsics:
    if camera.camera_model != "pinhole":
        remedy = "choose pinhole cameras with --cameras, or undistort its images"
        raise CaptureError(f"{table}: lens model {camera.camera_model!r:.40} is not supported; {remedy}")
    if camera.intrinsics is None or len(camera.intrinsics) < 4 or any(camera.intrinsics[4:]):
        raise CaptureError(f"{table}: its intrinsics are not fx, fy, cx and cy without skew; undistort its images")
    fx, fy, cx, cy = camera.intrinsics[:4]
    k1, k2, p1, p2, k3 = [*(camera.distortion or []), *[0.0] * 5][:5]
    distortion = (0.0,) * 6 if camera.is_undistorted else (k1, k2, p1, p2, k3, 0.0)
    with error_context(str(table)):
        return Intrinsics(
            width=camera.width,
            height=camera.height,
            fx=fx,
            fy=fy,
            cx=cx + CENTER,
            cy=cy + CENTER,
            model=CameraModel.OPENCV if any(distortion) else CameraModel.PINHOLE,
            distortion=distortion,
        )


def _sweeps(log: Path, trajectory: Trajectory, work: Path) -> tuple[list[LidarSweep], list[str]]:
    """Return the LiDAR sweeps; py123d stores points in the axes of the IMU."""
    tables = sorted(log.glob("lidar.*.arrow"))
    merged = [table for table in tables if table.stem.endswith("lidar_merged")] or tables
    sweeps, unread = [], 0
    for table in merged:
        for row in read_rows(table, ("timestamp_us", "data")):
            if not isinstance(row["data"], bytes) or not row["data"].startswith(b"\xff\xff\xff\xff"):
                unread += row["data"] is not None
                continue
            time, name = seconds(row["timestamp_us"], table), f"lidar/{table.stem}/{row['timestamp_us']}.ply"
            if not (work / name).is_file():
                write_ply(PointCloud(positions=_points(row["data"], table)), work / name)
            pose = log_pose(trajectory.at(time), str(table))
            sweeps.append(LidarSweep(path=name, timestamp=time, sensor_to_world=pose))
    notes = [f"{unread} LiDAR sweeps are not in the log; convert it with lidar_store_option=binary, lidar_codec=ipc"]
    return sorted(sweeps, key=lambda sweep: sweep.timestamp), notes if unread else []


def _points(data: bytes, table: Path) -> Float32[np.ndarray, "points 3"]:
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.BufferReader(data)) as reader:
            batch = reader.read_next_batch()
        batch.validate(full=True)
        points = np.stack([batch.column(axis).to_numpy(zero_copy_only=False) for axis in "xyz"], -1).astype(np.float32)
    except (*ARROW_ERRORS, StopIteration) as fault:
        raise CaptureError(f"{table}: a sweep is broken ({first_line(fault)}); convert the log again") from None
    return points[np.isfinite(points).all(-1)]


def _mask(log: Path, frames: list[Frame], work: Path) -> tuple[list[Frame], list[str]]:
    table = log / f"{BOXES}.arrow"
    if not table.is_file():
        return frames, ["there are no boxes of moving objects; no masks"]
    labels = read_metadata(table, _BoxMetadata).box_detection_label_class.rpartition(".")[2]
    if labels not in MOVABLE_LABELS:
        return frames, [f"which classes of {labels} can move is not known; no masks"]
    times, boxes = [], []
    for i, row in enumerate(read_rows(table, ("timestamp_us", "bounding_box_se3", "label"))):
        times.append(seconds(row["timestamp_us"], table))
        corners = _corners(row, MOVABLE_LABELS[labels], f"{table}: row {i}")
        boxes.append(Boxes(corners=corners, rectangles=NO_BOXES.rectangles))
    if not times:
        return frames, ["there are no boxes of moving objects; no masks"]
    chosen, without = [], 0
    for frame in frames:
        gaps = np.abs(np.array(times) - (frame.timestamp or 0.0))
        near = gaps.min() <= MAX_BOX_SECONDS
        chosen.append(boxes[int(gaps.argmin())] if near else NO_BOXES)
        without += not near
    masked, notes = write_box_masks(frames, chosen, work)
    return masked, [*notes, *([f"{without} images have no boxes of their moment; no masks"] if without else [])]


def _corners(row: dict[str, Any], movable: set[int], where: str) -> Float64[np.ndarray, "boxes 8 3"]:
    values, labels = row["bounding_box_se3"] or [], row["label"] or []
    if len(values) != len(labels) or any(not isinstance(box, list) or len(box) != 10 for box in values):
        raise CaptureError(f"{where}: boxes and labels differ; convert the log again")
    corners = [
        box_corners(box[:3], box[7:], quaternion_rotation(box[3:7], where))
        for box, label in zip(values, labels, strict=True)
        if label in movable
    ]
    array = np.array(corners, np.float64).reshape(-1, 8, 3)
    check_boxes(array, where)
    return array


def _near_origin(frames: list[Frame], sweeps: list[LidarSweep]) -> tuple[list[Frame], list[LidarSweep], list[str]]:
    """Move a log in map coordinates to the origin: single precision would round its poses."""
    origin = np.round(frames[0].center, -2)
    if np.abs(origin).max() < FAR:
        return frames, sweeps, []

    def moved(pose: Any) -> Any:
        matrix = np.array(pose)
        matrix[:, 3] -= origin
        return tuple(tuple(row) for row in matrix.tolist())

    frames = [replace(frame, camera_to_world=moved(frame.camera_to_world)) for frame in frames]
    sweeps = [replace(sweep, sensor_to_world=moved(sweep.sensor_to_world)) for sweep in sweeps]
    x, y, z = -origin
    return frames, sweeps, [f"moved by ({x:.0f}, {y:.0f}, {z:.0f}) from map coordinates"]


ARROW_LOG = Importer(kind="a log of 123D", recognizes=_is_arrow_log, read=read_arrow_log)
