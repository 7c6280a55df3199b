"""Importer of COLMAP models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.spatial.transform import Rotation

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics, Pose
from blocknerf.capture.image_files import find_images, fit_lenses
from blocknerf.capture.points import store_ply
from blocknerf.errors import CaptureError
from blocknerf.importers.colmap_files import (
    ColmapCamera,
    ColmapImage,
    count_images,
    is_model,
    read_cameras,
    read_images,
    read_points,
)
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.similarity import to_rows

MODEL_FOLDERS = ("", "sparse", "colmap/sparse", "dense/sparse", "dense/0/sparse")
"""Where a model is below the given folder: COLMAP's, nerfstudio's and the undistorter's layouts."""
IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8", "input", "")
"""Names of the folder of images, next to a model or above it."""
_PARTS = ("cameras", "images", "points3D", "rigs", "frames")
_UNDISTORT = "undistort the images with 'colmap image_undistorter' and give its folder"
_ZERO = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def find_models(path: Path) -> list[Path]:
    """Return the folders of the COLMAP models of a source: a file or folder of a model, or a folder above it."""
    if path.is_file():
        is_part = path.suffix in (".bin", ".txt") and path.stem in _PARTS
        return [path.parent] if is_part and is_model(path.parent) else []
    for below in MODEL_FOLDERS:
        folder = path / below
        if is_model(folder):
            return [folder]
        if folder.is_dir() and (models := [child for child in sorted(folder.iterdir()) if is_model(child)]):
            return models
    return []


def read_colmap(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Read a COLMAP model. Its points become a PLY in `work`; the world is COLMAP's, of any orientation and scale.

    A COLMAP camera is a camera, and a subfolder of images is a segment. Where most images have a camera of their own
    (COLMAP's default), these count as one.

    Raises:
        CaptureError: a file of the model is broken, a lens is not supported, or images are missing.
    """
    folder, notes = _largest(path)
    cameras, images = read_cameras(folder), read_images(folder)
    if not images:
        raise CaptureError(f"{folder}: this COLMAP model has no images; give another model")
    names = [image.name for image in images]
    found = find_images(folder, names, _image_folders(folder), options.images)
    lenses = _lenses(cameras, images, folder)
    fitted, size_notes = fit_lenses(lenses, [found.folder / image for image in found.paths])
    capture = Capture(
        image_dir=found.folder,
        frames=tuple(_frames(images, fitted, found.paths)),
        is_metric=False,
        source=f"COLMAP model {folder.name}",
        notes=(*notes, *found.notes, *size_notes),
    )
    check_files(capture)
    if (points := read_points(folder)) is None:
        return capture
    return replace(capture, sparse_points=store_ply(points, work), points_dir=work.resolve())


def colmap_pose(quaternion: Sequence[float], translation: Sequence[float]) -> Pose:
    """Return the camera-to-world pose of a world-to-camera quaternion (w, x, y, z) and translation.

    Raises:
        CaptureError: the quaternion is zero or not finite.
    """
    norm = float(np.linalg.norm(quaternion))
    if not 1e-6 < norm < 1e6:
        raise CaptureError(f"the quaternion of its pose has norm {norm:.3g}; export the model again")
    w, x, y, z = quaternion
    world_to_camera = Rotation.from_quat([x, y, z, w]).as_matrix()
    return to_rows(np.column_stack([world_to_camera.T, -world_to_camera.T @ np.array(translation)]))


def colmap_lens(camera: ColmapCamera) -> Intrinsics:
    """Return the lens of a COLMAP camera.

    Raises:
        CaptureError: the model cannot be represented.
    """
    p = camera.parameters
    model, distortion = CameraModel.OPENCV, _ZERO
    match camera.model:
        case "SIMPLE_PINHOLE":
            (fx, cx, cy), fy = p, p[0]
        case "PINHOLE":
            fx, fy, cx, cy = p
        case "SIMPLE_RADIAL" | "SIMPLE_RADIAL_FISHEYE":
            (fx, cx, cy, k1), fy = p, p[0]
            distortion = (k1, 0.0, 0.0, 0.0, 0.0, 0.0)
        case "RADIAL" | "RADIAL_FISHEYE":
            (fx, cx, cy, k1, k2), fy = p, p[0]
            distortion = (k1, k2, 0.0, 0.0, 0.0, 0.0)
        case "OPENCV":
            fx, fy, cx, cy, k1, k2, p1, p2 = p
            distortion = (k1, k2, p1, p2, 0.0, 0.0)
        case "OPENCV_FISHEYE":
            fx, fy, cx, cy, k1, k2, k3, k4 = p
            distortion = (k1, k2, 0.0, 0.0, k3, k4)
        case "FULL_OPENCV":
            fx, fy, cx, cy, k1, k2, p1, p2, k3, *rational = p
            distortion = (k1, k2, p1, p2, k3, 0.0)
            if any(rational):
                raise CaptureError(f"camera model FULL_OPENCV with k4, k5 or k6 is not supported; {_UNDISTORT}")
        case "EQUIRECTANGULAR":
            raise CaptureError(
                "camera model EQUIRECTANGULAR is not supported; cut perspective views from the panoramas"
            )
        case _:
            raise CaptureError(f"camera model {camera.model} is not supported; {_UNDISTORT}")
    if camera.model.endswith("FISHEYE"):
        model = CameraModel.FISHEYE
    elif distortion == _ZERO:
        model = CameraModel.PINHOLE
    return Intrinsics(
        width=camera.width, height=camera.height, fx=fx, fy=fy, cx=cx, cy=cy, model=model, distortion=distortion
    )


def _largest(path: Path) -> tuple[Path, tuple[str, ...]]:
    models = find_models(path)
    if len(models) == 1:
        return models[0], ()
    counts = {model: count_images(model) for model in models}
    largest = max(models, key=lambda model: counts[model])
    return largest, (f"{len(models)} COLMAP models in {largest.parent.name}; read the largest, {largest.name}",)


def _image_folders(model: Path) -> Iterator[Path]:
    model = model.resolve()
    yield from (folder / name for folder, name in product((model, *model.parents[:3]), IMAGE_FOLDERS))


def _lenses(cameras: Mapping[int, ColmapCamera], images: Sequence[ColmapImage], folder: Path) -> list[Intrinsics]:
    lenses: dict[int, Intrinsics] = {}
    for image in images:
        if image.camera not in cameras:
            raise CaptureError(f"{folder}: image {image.name} has camera {image.camera}, which is not in the model")
        if image.camera not in lenses:
            try:
                lenses[image.camera] = colmap_lens(cameras[image.camera])
            except CaptureError as error:
                raise CaptureError(f"{folder}: camera {image.camera}: {error}") from None
    return [lenses[image.camera] for image in images]


def _frames(images: Sequence[ColmapImage], lenses: Sequence[Intrinsics], paths: Sequence[str]) -> Iterator[Frame]:
    # Two images per camera on average is the least that any rig has.
    are_shared = len({image.camera for image in images}) * 2 <= len(images)
    for image, lens, path in zip(images, lenses, paths, strict=True):
        subfolder = PurePosixPath(path).parent.as_posix()
        try:
            pose = colmap_pose(image.quaternion, image.translation)
        except CaptureError as error:
            raise CaptureError(f"image {image.name}: {error}") from None
        yield Frame(
            name=path,
            image=path,
            intrinsics=lens,
            camera_to_world=pose,
            segment="0" if subfolder == "." else subfolder,
            camera=str(image.camera) if are_shared else "0",
        )


COLMAP = Importer(kind="a COLMAP model", recognizes=lambda path: bool(find_models(path)), read=read_colmap)
