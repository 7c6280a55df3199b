"""Importer of the cameras that Agisoft Metashape exports as XML.

Metashape's lens model (its manual, appendix D): the principal point is relative to the image center, and p1 and p2 are
in the other order than OpenCV's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float64

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics, parse_pose
from blocknerf.capture.image_files import find_images, fit_lenses
from blocknerf.errors import CaptureError
from blocknerf.files import read_bounded
from blocknerf.geo import SEMI_MAJOR, earth_centered_to_geodetic, east_north_up
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.importers.unsupported import read_head
from blocknerf.similarity import IDENTITY, Rows, chain, to_rows, transform_pose
from blocknerf.values import finite, first_line, one_case

MAX_XML_BYTES = 1 << 30
MAX_SKEW = 0.5
"""Largest shift in pixels that the skew (b2) of a lens may cause; lenses here have none."""
EARTH_MARGIN = 200e3
"""A chunk with its center this close to the earth's radius, in meters, has earth-centered coordinates."""
_LENSES = ("frame", "fisheye")
_HINT = "export the cameras again (File, Export, Export Cameras)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """An aligned camera of Metashape: one image."""

    label: str
    group: str
    sensor: str
    component: str | None
    matrix: list[list[float]]
    """Camera to chunk, 4x4, OpenCV axes."""


def find_cameras(path: Path) -> Path | None:
    """Return the XML file of cameras: the given one, or the only one in a folder."""
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path] if path.suffix.lower() == ".xml" else []
    found = [file for file in files if b"<document" in (head := read_head(file)) and b"<chunk" in head]
    return found[0] if found else None


def read_metashape(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Read the aligned cameras of the first chunk; disabled and unaligned ones are left out and counted.

    A georeferenced chunk is turned from earth-centered coordinates to east, north and up around its mean camera.

    Raises:
        CaptureError: the file is broken, a lens is not supported, or images are missing.
    """
    file = find_cameras(path)
    assert file is not None
    try:
        return _read(file, options)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise CaptureError(f"{file}: an entry is broken ({first_line(error)}); {_HINT}") from None


def _read(file: Path, options: ImportOptions) -> Capture:
    chunk, num_chunks = _chunk(file)
    views, notes = _views(chunk, file)
    notes += [f"{num_chunks} chunks; read the first"] if num_chunks > 1 else []
    found = find_images(file, [view.label for view in views], _image_folders(file), options.images)
    sensors = {sensor.get("id", ""): sensor for sensor in chunk.iterfind("sensors/sensor")}
    lenses = {key: _lens(sensor, file) for key, sensor in sensors.items() if key in {view.sensor for view in views}}
    _check_sensors(views, lenses, file)
    fitted, size_notes = fit_lenses(
        [lenses[view.sensor] for view in views], [found.folder / image for image in found.paths]
    )
    poses, is_metric, origin = _world_poses(chunk, views, file)
    frames = tuple(
        Frame(
            name=image,
            image=image,
            intrinsics=lens,
            camera_to_world=pose,
            segment=view.group,
            camera=view.sensor,
        )
        for view, image, lens, pose in zip(views, found.paths, fitted, poses, strict=True)
    )
    capture = Capture(
        image_dir=found.folder,
        frames=frames,
        is_metric=is_metric,
        geo_origin=origin,
        source="Metashape cameras",
        notes=(*notes, *found.notes, *size_notes),
    )
    check_files(capture)
    return capture


def _chunk(file: Path) -> tuple[Element, int]:
    try:
        root = ElementTree.fromstring(read_bounded(file, "Metashape XML", CaptureError, MAX_XML_BYTES))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise CaptureError(f"{file}: is not readable XML ({first_line(error)}); {_HINT}") from None
    chunks = list(root.iterfind("chunk"))
    if not chunks or chunks[0].find("cameras") is None:
        raise CaptureError(f"{file}: its first chunk holds no cameras; align the images, and {_HINT}")
    return chunks[0], len(chunks)


def _views(chunk: Element, file: Path) -> tuple[list[_View], list[str]]:
    views, counts = [], {"disabled": 0, "not aligned": 0}
    cameras = chunk.find("cameras")
    assert cameras is not None
    for group, camera in _cameras(cameras):
        if camera.get("enabled", "true").lower() in ("false", "0"):
            counts["disabled"] += 1
        elif camera.find("transform") is None:
            counts["not aligned"] += 1
        else:
            views.append(_view(group, camera, file))
    if not views:
        raise CaptureError(f"{file}: none of its {sum(counts.values())} cameras is aligned; align the images first")
    total = sum(counts.values()) + len(views)
    notes = [f"left out {count} of {total} cameras, which are {why}" for why, count in counts.items() if count]
    return views, notes


def _cameras(element: Element) -> Iterator[tuple[str, Element]]:
    """Yield the cameras with the labels of their groups."""
    yield from (("0", camera) for camera in element.iterfind("camera"))
    for group in element.iterfind("group"):
        label = group.get("label") or group.get("id") or "0"
        yield from ((label, camera) for camera in group.iterfind("camera"))


def _view(group: str, camera: Element, file: Path) -> _View:
    label = camera.get("label", "")
    numbers = _numbers(camera.find("transform"), 16, f"{file}: camera {one_case(label)}: transform")
    return _View(
        label=PureWindowsPath(label).name,
        group=group,
        sensor=camera.get("sensor_id", ""),
        component=camera.get("component_id"),
        matrix=np.array(numbers).reshape(4, 4).tolist(),
    )


def _image_folders(file: Path) -> Iterator[Path]:
    folder = file.resolve().parent
    yield from (folder / "images", folder / "photos", folder, folder.parent / "images", folder.parent)


def _check_sensors(views: list[_View], lenses: Mapping[str, Intrinsics], file: Path) -> None:
    for view in views:
        if view.sensor not in lenses:
            raise CaptureError(f"{file}: camera {one_case(view.label)} has an unknown sensor; {_HINT}")


def _lens(sensor: Element, file: Path) -> Intrinsics:
    where = f"{file}: sensor {one_case(sensor.get('label') or sensor.get('id') or '')}"
    calibration = sensor.find("calibration[@class='adjusted']")
    calibration = sensor.find("calibration") if calibration is None else calibration
    if calibration is None:
        raise CaptureError(f"{where} has no calibration; align the images, and {_HINT}")
    kind = calibration.get("type", sensor.get("type", "frame"))
    if kind not in _LENSES:
        remedy = "cut perspective views from the panoramas" if kind == "spherical" else "undistort the images"
        raise CaptureError(f"{where}: lens type {one_case(kind)} is not supported; {remedy}")
    size = calibration.find("resolution")
    size = sensor.find("resolution") if size is None else size
    if size is None:
        raise CaptureError(f"{where} has no resolution; {_HINT}")
    width, height = int(size.get("width", "")), int(size.get("height", ""))
    names = ("f", "fx", "fy", "cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2")
    value = {name: _number(calibration.find(name), f"{where}: {name}") for name in names}
    # OpenCV's p1 is Metashape's p2.
    tangential = (value["p2"], value["p1"])
    fx, fy = (value["f"] or value[name] for name in ("fx", "fy"))
    _check_lens(where, kind, value, tangential, height / fy if fy else 0.0)
    k4 = value["k4"] if kind == "fisheye" else 0.0
    distortion = (value["k1"], value["k2"], *tangential, value["k3"], k4)
    model = CameraModel.OPENCV if any(distortion) else CameraModel.PINHOLE
    return Intrinsics(
        width=width,
        height=height,
        fx=fx + value["b1"],
        fy=fy,
        cx=width / 2 + value["cx"],
        cy=height / 2 + value["cy"],
        model=CameraModel.FISHEYE if kind == "fisheye" else model,
        distortion=distortion,
    )


def _check_lens(
    where: str, kind: str, value: Mapping[str, float], tangential: tuple[float, float], height_angle: float
) -> None:
    """Raise if a lens has parameters that OpenCV's models do not have."""
    if abs(value["b2"]) * height_angle / 2 > MAX_SKEW:
        raise CaptureError(f"{where}: skew b2 is not supported; optimize the cameras without b2")
    if kind == "frame" and value["k4"]:
        raise CaptureError(f"{where}: k4 is not supported; optimize the cameras without k4, or undistort the images")
    if kind == "fisheye" and any(tangential):
        raise CaptureError(f"{where}: p1 and p2 of a fisheye are not supported; optimize the cameras without them")


def _world_poses(
    chunk: Element, views: list[_View], file: Path
) -> tuple[list[Rows], bool, tuple[float, float, float] | None]:
    """Return the poses in the world, whether it is metric, and the geographic origin of a georeferenced chunk."""
    components = {
        component.get("id"): transform
        for component in chunk.iterfind("components/component")
        if (transform := component.find("transform")) is not None and transform.find("rotation") is not None
    }
    of_chunk = chunk.find("transform")
    elements = [components.get(view.component, of_chunk) for view in views]
    transforms = {id(element): _similarity(element, file) for element in elements}
    poses = [
        transform_pose(parse_pose(view.matrix), transforms[id(element)])
        for view, element in zip(views, elements, strict=True)
    ]
    is_metric = all(element is not None for element in elements)
    center = np.array(poses)[:, :, 3].mean(axis=0)
    if not is_metric or abs(np.linalg.norm(center) - SEMI_MAJOR) > EARTH_MARGIN:
        return poses, is_metric, None
    latitude, longitude, altitude = earth_centered_to_geodetic(*center.tolist())
    axes = np.array(east_north_up(latitude, longitude))
    to_local = to_rows(np.column_stack([axes, -axes @ center]))
    return [transform_pose(pose, to_local) for pose in poses], True, (latitude, longitude, altitude)


def _similarity(element: Element | None, file: Path) -> Rows:
    """Return the transform of a chunk or component: rotation, translation and scale."""
    if element is None or element.find("rotation") is None:
        return IDENTITY
    where = f"{file}: transform of the chunk"
    rotation = np.array(_numbers(element.find("rotation"), 9, f"{where}: rotation")).reshape(3, 3)
    translation = np.array(_numbers(element.find("translation"), 3, f"{where}: translation"))
    (scale,) = _numbers(element.find("scale"), 1, f"{where}: scale") if element.find("scale") is not None else (1.0,)
    if not 1e-9 < scale < 1e9:
        raise CaptureError(f"{where}: scale is {scale:g}; {_HINT}")
    rigid = parse_pose(np.column_stack([rotation, translation]))
    scaling: Float64[np.ndarray, "3 4"] = np.column_stack([np.eye(3) * scale, np.zeros(3)])
    return chain(rigid, to_rows(scaling))


def _numbers(element: Element | None, count: int, where: str) -> list[float]:
    words = ((element.text if element is not None else None) or "").split()
    values = [finite(float(word)) for word in words]
    if len(values) != count or None in values:
        raise CaptureError(f"{where} is not {count} numbers; {_HINT}")
    return [value for value in values if value is not None]


def _number(element: Element | None, where: str) -> float:
    return 0.0 if element is None else _numbers(element, 1, where)[0]


METASHAPE = Importer(
    kind="cameras of Metashape", recognizes=lambda path: find_cameras(path) is not None, read=read_metashape
)
