"""Importer of scenes of nuScenes (Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020).

Layout: tables in `v1.0-mini` or `v1.0-trainval`, and next to it `samples` (key frames, 2 Hz) and `sweeps` (the rest)
with a folder per sensor.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation, Slerp

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.lidar import LidarSweep
from blocknerf.errors import CaptureError, error_context
from blocknerf.importers.box_masks import NO_BOXES, Boxes, box_corners, can_move, check_boxes, write_box_masks
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.importers.log_images import (
    CENTER,
    check_exist,
    choose_cameras,
    choose_scene,
    log_pose,
    quaternion_rotation,
    rigid,
)
from blocknerf.importers.nuscenes_tables import (
    Annotation,
    CalibratedSensor,
    Category,
    EgoPose,
    Instance,
    Log,
    Row,
    Sample,
    SampleData,
    Scene,
    Sensor,
    find,
    read_table,
    table_path,
)

LIDAR = "LIDAR_TOP"
MICROSECOND = 1e-6
TRACK_MARGIN = 0.3
"""Seconds for which a box holds before its first and after its last annotation; key frames are 0.5 s apart."""
MAP_ORIGINS = {
    "boston-seaport": (42.336849169438615, -71.05785369873047, 0.0),
    "singapore-onenorth": (1.2882100868743724, 103.78475189208984, 0.0),
    "singapore-hollandvillage": (1.2993652317780957, 103.78217697143555, 0.0),
    "singapore-queenstown": (1.2782562240223188, 103.76741409301758, 0.0),
}
"""Latitude and longitude of the origin of each map, as nuScenes publishes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measurement:
    """A measurement with its sensor's pose in the world."""

    data: SampleData
    sensor: CalibratedSensor
    channel: str
    pose: Float64[np.ndarray, "4 4"]

    @property
    def timestamp(self) -> float:
        return self.data.timestamp * MICROSECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    """The boxes of one object in the order of time."""

    category: str
    times: list[float]
    annotations: list[Annotation]


def read_nuscenes(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Return a scene; its world is the map's: meters east and north of the map's origin, z up.

    Raises:
        CaptureError: a table or file is missing or broken, or there are several scenes and none is chosen.
    """
    tables = _tables_folder(path)
    scenes = {scene.name: scene for scene in read_table(tables, Scene)}
    scene = scenes[choose_scene(sorted(scenes), options.scene, path, "scene")]
    samples = {row.token: row for row in read_table(tables, Sample) if row.scene_token == scene.token}
    measurements = _measurements(tables, samples, options.sweeps)
    available = sorted({item.channel for item in measurements if item.sensor.camera_intrinsic})
    names = choose_cameras(available, options.cameras, available, path)
    images = [item for item in measurements if item.channel in names]
    if not images:
        raise CaptureError(f"{table_path(tables, SampleData)}: has no camera images of {scene.name}; restore it")
    lidar = [item for item in measurements if item.channel == LIDAR]
    root = tables.parent
    check_exist(root, [item.data.filename for item in images], "image")
    check_exist(root, [item.data.filename for item in lidar], "LiDAR sweep")
    frames = [_frame(item, scene.name, table_path(tables, CalibratedSensor)) for item in images]
    tracks = _tracks(tables, samples)
    boxes = [_boxes(tracks, item.timestamp) for item in images]
    frames, notes = write_box_masks(frames, boxes, work)
    location = find({row.token: row for row in read_table(tables, Log)}, scene.log_token, tables, Log).location
    with error_context(str(tables)):
        capture = Capture(
            image_dir=root.resolve(),
            mask_dir=work.resolve() if any(frame.mask for frame in frames) else None,
            frames=tuple(frames),
            lidar_sweeps=tuple(map(_sweep, lidar)),
            notes=tuple(notes),
            is_metric=True,
            geo_origin=MAP_ORIGINS.get(location),
            source=f"nuScenes {scene.name}, {location}",
        )
    check_files(capture)
    return capture


def _is_nuscenes(path: Path) -> bool:
    return path.is_dir() and bool(_tables_folders(path))


def _tables_folders(path: Path) -> list[Path]:
    """Return the folders of tables: the path itself, or those of all versions in it."""
    folders = [path, *sorted(path.glob("v1.0-*"))]
    return [folder for folder in folders if all(table_path(folder, row).is_file() for row in (Scene, SampleData))]


def _tables_folder(path: Path) -> Path:
    folders = _tables_folders(path)
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise CaptureError(f"{path}: holds the tables of several versions; give the folder of one of {names}")
    return folders[0].resolve()


def _measurements(tables: Path, samples: dict[str, Sample], sweeps: bool) -> list[_Measurement]:
    """Return the measurements of a scene's cameras and LiDAR in the order of time and sensor."""
    data = [
        row for row in read_table(tables, SampleData) if row.sample_token in samples and (row.is_key_frame or sweeps)
    ]
    wanted = {row.ego_pose_token for row in data}
    poses = {row.token: row for row in read_table(tables, EgoPose) if row.token in wanted}
    calibrations = {row.token: row for row in read_table(tables, CalibratedSensor)}
    sensors = {row.token: row for row in read_table(tables, Sensor)}
    measurements = []
    for row in data:
        calibration = find(calibrations, row.calibrated_sensor_token, tables, CalibratedSensor)
        sensor = find(sensors, calibration.sensor_token, tables, Sensor)
        if sensor.modality != "camera" and sensor.channel != LIDAR:
            continue
        ego = find(poses, row.ego_pose_token, tables, EgoPose)
        pose = _matrix(ego, tables, EgoPose) @ _matrix(calibration, tables, CalibratedSensor)
        measurements.append(_Measurement(data=row, sensor=calibration, channel=sensor.channel, pose=pose))
    return sorted(measurements, key=lambda item: (item.data.timestamp, item.channel))


def _matrix(row: EgoPose | CalibratedSensor, tables: Path, kind: type[Row]) -> Float64[np.ndarray, "4 4"]:
    where = f"{table_path(tables, kind)}: {row.token}"
    return rigid(quaternion_rotation(row.rotation, where), row.translation)


def _frame(item: _Measurement, scene: str, path: Path) -> Frame:
    rows = item.sensor.camera_intrinsic
    (fx, skew, cx), (_, fy, cy) = rows[:2] if len(rows) == 3 else [(0.0, 1.0, 0.0)] * 2
    if abs(skew) > 1e-6 * abs(fx) or item.data.width is None or item.data.height is None:
        raise CaptureError(
            f"{path}: {item.sensor.token}: is not a pinhole camera with an image size; restore the table"
        )
    with error_context(f"{path}: {item.sensor.token}"):
        lens = Intrinsics(width=item.data.width, height=item.data.height, fx=fx, fy=fy, cx=cx + CENTER, cy=cy + CENTER)
    return Frame(
        name=item.data.filename,
        image=item.data.filename,
        intrinsics=lens,
        camera_to_world=log_pose(item.pose, item.data.filename),
        segment=scene,
        camera=item.channel,
        timestamp=item.timestamp,
    )


def _sweep(item: _Measurement) -> LidarSweep:
    pose = log_pose(item.pose, item.data.filename)
    return LidarSweep(path=item.data.filename, timestamp=item.timestamp, sensor_to_world=pose)


def _tracks(tables: Path, samples: dict[str, Sample]) -> list[_Track]:
    """Return the objects of a scene that can move."""
    if not table_path(tables, Annotation).is_file():  # the test split has none
        return []
    annotations: dict[str, list[Annotation]] = defaultdict(list)
    for row in read_table(tables, Annotation):
        if row.sample_token in samples:
            annotations[row.instance_token].append(row)
    instances = {row.token: row for row in read_table(tables, Instance)}
    categories = {row.token: row for row in read_table(tables, Category)}
    tracks = []
    for token, rows in annotations.items():
        instance = find(instances, token, tables, Instance)
        category = find(categories, instance.category_token, tables, Category).name
        if can_move(category):
            rows.sort(key=lambda row: samples[row.sample_token].timestamp)
            times = [samples[row.sample_token].timestamp * MICROSECOND for row in rows]
            for row in rows:
                quaternion_rotation(row.rotation, f"{table_path(tables, Annotation)}: {row.token}")
            tracks.append(_Track(category=category, times=times, annotations=rows))
    return tracks


def _boxes(tracks: list[_Track], time: float) -> Boxes:
    """Return the boxes at a time: cameras do not take their images exactly when the key frame was annotated."""
    visible = [track for track in tracks if track.times[0] - TRACK_MARGIN <= time <= track.times[-1] + TRACK_MARGIN]
    corners = np.array([_corners_at(track, time) for track in visible], np.float64).reshape(-1, 8, 3)
    check_boxes(corners, "sample_annotation.json")
    return Boxes(
        corners=corners,
        rectangles=NO_BOXES.rectangles,
        classes=tuple(sorted({track.category for track in visible})),
    )


def _corners_at(track: _Track, time: float) -> Float64[np.ndarray, "8 3"]:
    """Return the corners of an object's box, interpolated between annotations."""
    time = min(max(time, track.times[0]), track.times[-1])
    after = min(int(np.searchsorted(track.times, time)), len(track.times) - 1)
    before = max(after - 1, 0)
    first, second = track.annotations[before], track.annotations[after]
    rotations = Rotation.from_quat([[*row.rotation[1:], row.rotation[0]] for row in (first, second)])
    span = track.times[after] - track.times[before]
    fraction = (time - track.times[before]) / span if span > 0 else 1.0
    rotation = Slerp([0.0, 1.0], rotations)(fraction).as_matrix()
    center = np.array(first.translation) + fraction * (np.array(second.translation) - np.array(first.translation))
    width, length, height = second.size
    return box_corners(center, (length, width, height), rotation)


NUSCENES = Importer(kind="nuScenes", recognizes=_is_nuscenes, read=read_nuscenes)
