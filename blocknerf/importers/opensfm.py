"""Importer of OpenSfM's `reconstruction.json`, alone or in a project of OpenDroneMap (ODM).

Conventions of OpenSfM: focal lengths and offsets are relative to the larger side of the image; rotation (axis-angle)
and translation map the world to the camera; the world is east, north, up around `reference_lla`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics, Pose
from blocknerf.capture.image_files import find_images, fit_lenses
from blocknerf.capture.points import PointCloud, store_ply
from blocknerf.errors import CaptureError
from blocknerf.geo import enu_to_geodetic
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.json_file import JsonFile, Number, PositiveCount
from blocknerf.similarity import to_rows
from blocknerf.values import one_case

FILE_NAME = "reconstruction.json"
PROJECT_FOLDERS = ("", "opensfm")
"""Where the file is below the given folder: in OpenSfM's and ODM's layout."""
_Point3 = tuple[Number, Number, Number]
_Origin = tuple[float, float, float]
Byte = Annotated[float, msgspec.Meta(ge=0, le=255)]


class _Camera(msgspec.Struct, frozen=True, kw_only=True):
    projection_type: str
    width: PositiveCount
    height: PositiveCount
    focal: Number | None = None
    focal_x: Number | None = None
    focal_y: Number | None = None
    c_x: Number = 0.0
    c_y: Number = 0.0
    k1: Number = 0.0
    k2: Number = 0.0
    k3: Number = 0.0
    k4: Number = 0.0
    p1: Number = 0.0
    p2: Number = 0.0


class _Shot(msgspec.Struct, frozen=True, kw_only=True):
    camera: str
    rotation: tuple[Number, Number, Number]
    translation: _Point3
    capture_time: Number | None = None
    gps_position: _Point3 | None = None


class _Point(msgspec.Struct, frozen=True, kw_only=True):
    coordinates: _Point3
    color: tuple[Byte, Byte, Byte] = (128.0, 128.0, 128.0)


class _Reference(msgspec.Struct, frozen=True, kw_only=True):
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    longitude: Annotated[float, msgspec.Meta(ge=-360, le=360)]
    altitude: Number = 0.0


class _Reconstruction(msgspec.Struct, frozen=True, kw_only=True):
    cameras: dict[str, _Camera]
    shots: dict[str, _Shot]
    points: dict[str, _Point] = {}
    reference_lla: _Reference | None = None


_FILE = JsonFile(content=list[_Reconstruction], what="reconstruction", error=CaptureError)
_PARAMETERS = {
    "perspective": ("k1", "k2"),
    "simple_radial": ("k1",),
    "radial": ("k1", "k2"),
    "brown": ("k1", "k2", "k3", "p1", "p2"),
    "fisheye": ("k1", "k2"),
    "fisheye_opencv": ("k1", "k2", "k3", "k4"),
}
"""Supported projections with their distortion coefficients, which are those of OpenCV."""
_PANORAMAS = ("spherical", "equirectangular")


def find_reconstruction(path: Path) -> Path | None:
    """Return the `reconstruction.json` of a file, a folder or an ODM project, or None."""
    if path.is_file():
        return path if path.name.startswith("reconstruction") and path.suffix == ".json" else None
    return next((file for below in PROJECT_FOLDERS if (file := path / below / FILE_NAME).is_file()), None)


def read_opensfm(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Read the largest reconstruction of a file. Its points become a PLY in `work`.

    Lengths are in meters if the reconstruction has a geographic reference.

    Raises:
        CaptureError: the file is broken, a lens is not supported, or images are missing.
    """
    file = find_reconstruction(path)
    assert file is not None
    reconstructions = _FILE.read(file)
    if not any(reconstruction.shots for reconstruction in reconstructions):
        raise CaptureError(f"{file}: holds no images with poses; reconstruct again")
    largest = max(reconstructions, key=lambda reconstruction: len(reconstruction.shots))
    notes = [f"{len(reconstructions)} reconstructions; read the largest"] if len(reconstructions) > 1 else []
    names = sorted(largest.shots)
    found = find_images(file, names, _image_folders(file), options.images)
    lenses = [_lens(largest, name, file) for name in names]
    fitted, size_notes = fit_lenses(lenses, [found.folder / image for image in found.paths])
    origin = _origin(largest)
    capture = Capture(
        image_dir=found.folder,
        frames=tuple(_frames(largest, names, fitted, found.paths, origin)),
        is_metric=origin is not None,
        geo_origin=origin,
        source="OpenSfM reconstruction",
        notes=(*notes, *found.notes, *size_notes),
    )
    check_files(capture)
    if not largest.points:
        return capture
    return replace(capture, sparse_points=store_ply(_points(largest), work), points_dir=work.resolve())


def _image_folders(file: Path) -> Iterator[Path]:
    folder = file.resolve().parent
    yield from (folder / "images", folder.parent / "images", folder, folder.parent)


def _origin(reconstruction: _Reconstruction) -> _Origin | None:
    """Return the geographic reference; OpenSfM writes zeros without GPS."""
    reference = reconstruction.reference_lla
    if reference is None or (reference.latitude == 0.0 and reference.longitude == 0.0):
        return None
    return reference.latitude, reference.longitude, reference.altitude


def _lens(reconstruction: _Reconstruction, name: str, file: Path) -> Intrinsics:
    key = reconstruction.shots[name].camera
    camera = reconstruction.cameras.get(key)
    where = f"{file}: camera {one_case(key)}"
    if camera is None:
        raise CaptureError(f"{where} of {one_case(name)} is not in the file; reconstruct again")
    kind = camera.projection_type
    if kind not in _PARAMETERS:
        remedy = "cut perspective views from the panoramas" if kind in _PANORAMAS else "undistort the images"
        raise CaptureError(f"{where}: projection {one_case(kind)} is not supported; {remedy}")
    side = max(camera.width, camera.height)
    focal_x = camera.focal if camera.focal_x is None else camera.focal_x
    if focal_x is None:
        raise CaptureError(f"{where} has no focal length; add focal")
    focal_y = focal_x if camera.focal_y is None else camera.focal_y
    values = {key: getattr(camera, key) for key in _PARAMETERS[kind]}
    distortion = tuple(values.get(key, 0.0) for key in ("k1", "k2", "p1", "p2", "k3", "k4"))
    model = CameraModel.OPENCV if any(distortion) else CameraModel.PINHOLE
    return Intrinsics(
        width=camera.width,
        height=camera.height,
        fx=focal_x * side,
        fy=focal_y * side,
        cx=camera.width / 2 + camera.c_x * side,
        cy=camera.height / 2 + camera.c_y * side,
        model=CameraModel.FISHEYE if kind.startswith("fisheye") else model,
        distortion=distortion,
    )


def _frames(
    reconstruction: _Reconstruction,
    names: list[str],
    lenses: list[Intrinsics],
    paths: tuple[str, ...],
    origin: _Origin | None,
) -> Iterator[Frame]:
    cameras = {camera: str(i) for i, camera in enumerate(sorted(reconstruction.cameras))}
    for name, lens, path in zip(names, lenses, paths, strict=True):
        shot = reconstruction.shots[name]
        yield Frame(
            name=path,
            image=path,
            intrinsics=lens,
            camera_to_world=_pose(shot),
            segment="0",
            camera=cameras[shot.camera],
            # Zero without EXIF.
            timestamp=shot.capture_time or None,
            gps=None if origin is None or shot.gps_position is None else _geodetic(shot.gps_position, origin),
        )


def _pose(shot: _Shot) -> Pose:
    rotation = cv2.Rodrigues(np.array(shot.rotation))[0].T
    return to_rows(np.column_stack([rotation, -rotation @ np.array(shot.translation)]))


def _geodetic(position: _Point3, origin: _Origin) -> _Origin | None:
    """Return latitude, longitude and altitude of a position east, north and up of the origin."""
    east, north, up = position
    if max(map(abs, position)) > 1e5:
        return None
    return (*enu_to_geodetic(east, north, origin), origin[2] + up)


def _points(reconstruction: _Reconstruction) -> PointCloud:
    points = reconstruction.points.values()
    return PointCloud(
        positions=np.array([point.coordinates for point in points], dtype=np.float32),
        colors=np.array([point.color for point in points]).round().astype(np.uint8),
    )


OPENSFM = Importer(
    kind="an OpenSfM reconstruction", recognizes=lambda path: find_reconstruction(path) is not None, read=read_opensfm
)
