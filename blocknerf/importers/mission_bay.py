"""Importer of the Waymo Block-NeRF data set (San Francisco Mission Bay), which the Block-NeRF paper released.

TFRecords of `tf.train.Example`, one image a record, in `waymo_block_nerf_mission_bay_{train,validation}.tfrecord-*`.
The records hold no poses: each pixel has a ray. A pose is the rotation that maps the rays of a pinhole camera best to
the stored ones (Kabsch 1976). Images are converted once, file by file; a stopped import continues where it was.
"""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from rich.progress import track

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics, Split
from blocknerf.errors import CaptureError, error_context
from blocknerf.files import write_atomic
from blocknerf.images import write_image
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.importers.log_images import log_pose, rigid
from blocknerf.importers.tfrecord import Feature, parse_example, read_records
from blocknerf.json_file import JsonFile, Record
from blocknerf.kernels.threads import available_cores
from blocknerf.values import MAX_SIDE

SEGMENT = "mission_bay"
SOLVED_RAYS = 20_000
"""Rays of an image that its pose is solved from, on a regular grid."""
MAX_RESIDUAL = 0.01
"""Largest root mean square distance of unit rays (radians) that passes without a warning, as other readers use."""
MAX_THREADS = 4
"""Files that are converted side by side; each takes about 150 MB."""
_FILE = re.compile(r"(?P<name>.*(?P<split>train|validation|test)\.tfrecord(-\d+-of-\d+)?)(\.gz)?")
_SPLITS: dict[str, Split] = {"train": "train", "validation": "val", "test": "test"}


class _Image(Record, frozen=True):
    """What a record holds besides its pixels."""

    name: str
    camera: str
    width: int
    height: int
    focal: tuple[float, float]
    exposure: float
    rotation: list[list[float]]
    """Camera to world, three rows."""
    center: tuple[float, float, float]
    """In units of the data set."""
    has_mask: bool
    masked: float
    """Share of the pixels that show something movable."""
    residual: float
    """Root mean square distance between unit rays of the solved pose and the stored ones."""
    spread: float
    """Largest distance of a ray's origin from their mean."""


class _Converted(Record, frozen=True, tag_field="format", tag="blocknerf.mission_bay/1"):
    """The converted records of one file; written after their images."""

    size: int
    """Bytes of the file."""
    images: list[_Image]


_CONVERTED = JsonFile(content=_Converted, what="converted records", remedy="remove it", error=CaptureError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rays:
    """Rays on a grid of pixels of one image."""

    local: Float64[np.ndarray, "rays 3"]
    """Unit directions of the pinhole camera, OpenCV axes."""
    world: Float64[np.ndarray, "rays 3"]
    origins: Float64[np.ndarray, "rays 3"]


def read_mission_bay(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Return the images of all files, along the street; world in meters if `options.world_unit` is right.

    Raises:
        CaptureError: a file is missing or broken, a checksum is wrong, or a feature is missing.
    """
    files = _files(path)
    threads = min(MAX_THREADS, available_cores(), len(files))
    frames: list[Frame] = []
    images: list[_Image] = []
    pool = ThreadPoolExecutor(threads)
    try:
        results = pool.map(lambda file: _convert(file, work), files)
        tracked = track(results, "converting records", len(files), disable=not sys.stdout.isatty())
        for file, converted in zip(files, tracked, strict=True):
            images += converted.images
            frames += [_frame(image, _split(file), options.world_unit) for image in converted.images]
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, files in progress end and no other begins
    if not frames:
        raise CaptureError(f"{path}: its files hold no records; download them again")
    with error_context(str(path)):
        capture = Capture(
            image_dir=(work / "images").resolve(),
            mask_dir=(work / "masks").resolve(),
            frames=tuple(_along_the_street(frames)),
            notes=tuple(_notes(images, options.world_unit)),
            is_metric=True,
            source="Waymo Block-NeRF Mission Bay",
        )
    check_files(capture)
    return capture


def _is_mission_bay(path: Path) -> bool:
    return bool(_matching(path))


def _matching(path: Path) -> list[Path]:
    candidates = [path] if path.is_file() else sorted(path.glob("*.tfrecord*"))
    return [file for file in candidates if _FILE.fullmatch(file.name)]


def _files(path: Path) -> list[Path]:
    """Return the files without a second copy, which some have with the prefix `v1.0_`."""
    files = {_stem(file).removeprefix("v1.0_"): file for file in _matching(path)}
    return [files[name] for name in sorted(files)]


def _stem(file: Path) -> str:
    match = _FILE.fullmatch(file.name)
    assert match is not None
    return match["name"]


def _split(file: Path) -> Split:
    match = _FILE.fullmatch(file.name)
    assert match is not None
    return _SPLITS[match["split"]]


def _convert(file: Path, work: Path) -> _Converted:
    """Return the records of a file, after writing its images and masks unless an earlier import did."""
    done = work / "records" / f"{_stem(file)}.json"
    if done.is_file():
        converted = _CONVERTED.read(done)
        if converted.size == file.stat().st_size:
            return converted
    images = [_write(parse_example(data, where), work, where) for where, data in _records(file)]
    converted = _Converted(size=file.stat().st_size, images=images)
    _CONVERTED.write(converted, done)
    return converted


def _records(file: Path) -> Iterator[tuple[str, bytes]]:
    for number, data in enumerate(read_records(file)):
        yield f"{file}: record {number}", data


def _write(features: dict[str, Feature], work: Path, where: str) -> _Image:
    """Write image and mask of a record, and return the rest of it."""
    width, height = (int(_numbers(features, key, 1, where)[0]) for key in ("width", "height"))
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise CaptureError(f"{where}: image size {width}x{height} is impossible; download the file again")
    camera = f"cam_{int(_numbers(features, 'cam_idx', 1, where)[0]):02d}"
    identity = int(_numbers(features, "image_hash", 1, where)[0]) & 0xFFFF_FFFF_FFFF_FFFF
    name, data = f"{camera}/{identity:016x}.png", features.get("image")
    if not isinstance(data, bytes) or not data.startswith(b"\x89PNG"):
        raise CaptureError(f"{where}: image is not a PNG; download the file again")
    mask = _numbers(features, "mask", width * height, where).reshape(height, width) != 0
    focal = _numbers(features, "intrinsics", None, where)
    if len(focal) < 2 or min(focal[:2]) <= 0:
        raise CaptureError(f"{where}: intrinsics are not two focal lengths; download the file again")
    rays = _rays(features, width, height, focal, where)
    rotation, residual = solve_rotation(rays.local, rays.world)
    center = rays.origins.mean(0)
    write_atomic(work / "images" / name, data)
    if mask.any():
        write_image(work / "masks" / name, np.where(mask, 0, 255).astype(np.uint8))
    return _Image(
        name=name,
        camera=camera,
        width=width,
        height=height,
        focal=(float(focal[0]), float(focal[1])),
        exposure=float(_numbers(features, "equivalent_exposure", 1, where)[0]),
        rotation=rotation.tolist(),
        center=(float(center[0]), float(center[1]), float(center[2])),
        has_mask=bool(mask.any()),
        masked=float(mask.mean()),
        residual=residual,
        spread=float(np.linalg.norm(rays.origins - center, axis=1).max()),
    )


def _rays(features: dict[str, Feature], width: int, height: int, focal: np.ndarray, where: str) -> _Rays:
    directions, origins = (
        _numbers(features, key, width * height * 3, where).reshape(height, width, 3)
        for key in ("ray_dirs", "ray_origins")
    )
    step = max(1, int(np.sqrt(width * height / SOLVED_RAYS)))
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    local = np.stack(
        [
            (columns + 0.5 - width / 2) / focal[0],
            (rows + 0.5 - height / 2) / focal[1],
            np.ones(len(rows)),
        ],
        -1,
    )
    world = directions[rows, columns].astype(np.float64)
    lengths = np.linalg.norm(world, axis=1, keepdims=True)
    if not (lengths > 1e-6).all():
        raise CaptureError(f"{where}: ray_dirs hold a zero; download the file again")
    return _Rays(
        local=local / np.linalg.norm(local, axis=1, keepdims=True),
        world=world / lengths,
        origins=origins[rows, columns].astype(np.float64),
    )


def solve_rotation(
    local: Float64[np.ndarray, "rays 3"], world: Float64[np.ndarray, "rays 3"]
) -> tuple[Float64[np.ndarray, "3 3"], float]:
    """Return the rotation from camera to world that fits unit rays best, and the root mean square distance left.

    Source: Kabsch, "A solution for the best rotation to relate two sets of vectors", 1976.
    """
    left, _, right = np.linalg.svd(world.T @ local)
    sign = np.sign(np.linalg.det(left @ right))
    rotation = left @ np.diag([1.0, 1.0, sign]) @ right
    residual = float(np.sqrt(((world - local @ rotation.T) ** 2).sum(1).mean()))
    return rotation, residual


def _numbers(features: dict[str, Feature], key: str, count: int | None, where: str) -> np.ndarray:
    """Return the numbers of a feature; `count` of them, or any number for None."""
    values = features.get(key)
    if not isinstance(values, np.ndarray):
        raise CaptureError(f"{where}: {key} is missing or not of its type; these are not records of Mission Bay")
    if count is not None and len(values) != count:
        raise CaptureError(f"{where}: {key} has {len(values)} values instead of {count}; download the file again")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CaptureError(f"{where}: {key} holds NaN or infinity; download the file again")
    return values


def _frame(image: _Image, split: Split, unit: float) -> Frame:
    lens = Intrinsics(
        width=image.width,
        height=image.height,
        fx=image.focal[0],
        fy=image.focal[1],
        cx=image.width / 2,
        cy=image.height / 2,
    )
    pose = rigid(np.array(image.rotation), np.array(image.center) * unit)
    return Frame(
        name=image.name,
        image=image.name,
        mask=image.name if image.has_mask else None,
        intrinsics=lens,
        camera_to_world=log_pose(pose, image.name),
        segment=SEGMENT,
        camera=image.camera,
        exposure=image.exposure if image.exposure > 0 else None,
        split=split,
    )


def _along_the_street(frames: list[Frame]) -> list[Frame]:
    """Return the frames in the order of their positions along the street: records have no times."""
    centers = np.array([frame.center for frame in frames])
    centers -= centers.mean(0)
    axis = np.linalg.svd(centers, full_matrices=False)[2][0]
    along = centers @ (axis * np.sign(axis[np.abs(axis).argmax()]))
    order = sorted(range(len(frames)), key=lambda i: (round(float(along[i]), 3), frames[i].camera, frames[i].name))
    return [frames[i] for i in order]


def _notes(images: list[_Image], unit: float) -> list[str]:
    """Return what the import found: unit, masks, quality of the poses, rolling shutter."""
    masked = float(np.mean([image.masked for image in images]))
    notes = [
        f"one unit of the records is taken as {unit:g} m (--world-unit)",
        f"masks of movable objects cover {100 * masked:.1f} % of all pixels",
    ]
    spread = max(image.spread for image in images) * unit
    if spread > 1e-3:
        notes.append(f"ray origins of an image differ by up to {spread:.2g} m (rolling shutter); their mean is used")
    poor = [image for image in images if image.residual > MAX_RESIDUAL]
    if poor:
        worst = max(poor, key=lambda image: image.residual)
        notes.append(
            f"warning: the rays of {len(poor)} of {len(images)} images do not fit a pinhole camera;"
            f" the worst is {worst.name}, by {worst.residual:.3g} rad (expected below {MAX_RESIDUAL})"
        )
    return notes


MISSION_BAY = Importer(kind="records of Waymo's Mission Bay", recognizes=_is_mission_bay, read=read_mission_bay)
