"""Writer of the sample city as a capture: images, masks, poses, points and street map."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.errors import RunError
from blocknerf.files import format_json, write_atomic
from blocknerf.images import to_uint8
from blocknerf.json_file import read_json
from blocknerf.town.osm_writer import GEO_ORIGIN, osm_xml, to_degrees
from blocknerf.town.rig import RIG
from blocknerf.town.town import RaycastResult, Town
from blocknerf.town.views import SampleSpec, SampleView, perturb_poses, plan_views, render_view

SOURCE = "blocknerf sample"
"""Marks a `transforms.json` that was written here."""
TRANSFORMS, TRUE_TRANSFORMS = "transforms.json", "transforms_true.json"
CLEAR_MASK = "masks/clear.png"
"""Common mask of all images without a moving car."""
POINTS_PER_FRAME = 12
POINT_RANGE = 60.0
"""Maximum distance of points from the camera (m), as in a typical reconstruction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewBuffers:
    """Files and points of a written view, besides its image."""

    mask: str
    """Path of the mask in the folder."""
    sky: str
    """Path of the sky mask."""
    points: PointCloud
    """A few visible surface points."""


def write_sample(town: Town, out: Path, spec: SampleSpec) -> Iterator[SampleView]:
    """Write a capture into an empty folder; yield each view once it is on disk (for a progress bar)."""
    views, buffers = plan_views(spec), []
    for view in views:
        buffers.append(write_view(town, out, view, spec))
        yield view
    clouds = [view_buffers.points for view_buffers in buffers]
    positions, colors = (
        np.concatenate(parts) for parts in zip(*((c.positions, c.colors) for c in clouds), strict=True)
    )
    write_ply(PointCloud(positions=positions, colors=colors), out / "points3D.ply")
    write_atomic(out / "streets.osm", osm_xml())
    _write_transforms(out, spec, views, buffers)
    write_atomic(out / "README.md", readme(spec))


def write_view(town: Town, out: Path, view: SampleView, spec: SampleSpec) -> ViewBuffers:
    """Write one image, its sky mask, and its mask if a moving car is visible."""
    rendering = render_view(town, view, spec)
    image, moving = to_uint8(rendering.color), _dilate(rendering.moving.numpy())
    mask = f"masks/{view.name}.png" if moving.any() else CLEAR_MASK
    sky_mask = f"skies/{view.name}.png"
    for folder in ("images", "masks", "skies"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _write_jpeg(out / "images" / f"{view.name}.jpg", image, spec.jpeg_quality)
    _write_png(out / mask, np.where(moving, 0, 255).astype(np.uint8))
    _write_png(out / sky_mask, np.isinf(rendering.depth.numpy()))
    return ViewBuffers(mask=mask, sky=sky_mask, points=_sample_points(rendering, image, moving, view, spec))


def read_spec(out: Path) -> SampleSpec | None:
    """Return the options of an existing sample, or None if the folder is not a sample written here."""
    try:
        data = read_json(out / TRANSFORMS, "sample")
        if data["source"] != SOURCE:
            return None
        return SampleSpec(**data["sample"])
    except (RunError, KeyError, TypeError):
        return None


def encoders() -> dict[str, str]:
    """Return the versions of the image encoders; equal versions write equal bytes."""
    import PIL
    from PIL import features

    codecs = {name: str(features.version(name)) for name in ("libjpeg_turbo", "zlib")}
    return {"pillow": PIL.__version__, **codecs}


def command(spec: SampleSpec, out: str) -> str:
    """Return the command line that writes a sample again."""
    words = ["blocknerf", "sample", out]
    for field in fields(spec):
        value = getattr(spec, field.name)
        if value != field.default:
            words += ["--" + field.name.replace("_", "-"), str(value)]
    return " ".join(words)


def readme(spec: SampleSpec) -> str:
    """Return the README of a sample: its contents and the command that wrote it."""
    count = spec.drives * spec.positions * len(RIG)
    poses = "Poses are exact."
    if spec.translation_noise or spec.rotation_noise:
        poses = f"The poses of\neach segment are displaced together; `{TRUE_TRANSFORMS}` has the true ones."
    return f"""# A sample city

{count} images ({spec.width}x{spec.height}) of an analytic town: {spec.drives} segments of a car with three cameras.
Each segment has another time of day (noon, dusk, overcast). Moving cars are masked; every frame has an exposure.
All images are synthetic (`blocknerf/town`). {poses}

Written by the command below, byte for byte if `written_with` in `transforms.json` matches the installed encoders:

    {command(spec, "data_samples/mini_city" if spec == SampleSpec() else "OUT")}

- `transforms.json`: nerfstudio's format; OpenGL camera-to-world poses in meters, east-north-up. `exposure` is shutter
  time (ms) x ISO, `sequence_id` the segment, `camera_id` the camera on the car, `gps` the true position.
- `images/`, `masks/` (black: moving car to ignore; its shadow is not masked), `skies/` (white: sky).
- `points3D.ply`: a few thousand points of exact depth. `streets.osm`: the streets as an OpenStreetMap extract.
"""


def _sample_points(
    rendering: RaycastResult,
    image: UInt8[np.ndarray, "height width 3"],
    moving: Bool[np.ndarray, "height width"],
    view: SampleView,
    spec: SampleSpec,
) -> PointCloud:
    """Return surface points at a few random pixels of an image."""
    rng = Random(f"points/{spec.seed}/{view.name}")
    rows = np.array([rng.randrange(spec.height) for _ in range(POINTS_PER_FRAME)])
    columns = np.array([rng.randrange(spec.width) for _ in range(POINTS_PER_FRAME)])
    depth = rendering.depth.numpy().astype(np.float64)[rows, columns]
    keep = (depth < POINT_RANGE) & ~moving[rows, columns]
    rows, columns, depth = rows[keep], columns[keep], depth[keep]
    local = np.stack(
        [
            (columns + 0.5 - spec.width / 2) / spec.focal,
            (rows + 0.5 - spec.height / 2) / spec.focal,
            np.ones(len(rows)),
        ],
        -1,
    )
    local *= (depth / np.sqrt((local**2).sum(-1)))[:, None]
    pose = np.array(view.pose)
    # Explicit sum: the order of summation in a matrix product depends on the machine.
    rotated = sum(local[:, axis, None] * pose[None, :, axis] for axis in range(3))
    return PointCloud(positions=(rotated + pose[:, 3]).astype(np.float32), colors=image[rows, columns])


def _dilate(moving: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Dilate a mask by one pixel: neighboring pixels contain part of a car's edge."""
    padded = np.pad(moving, 1)
    height, width = moving.shape
    shifts = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.logical_or.reduce(shifts)


def _write_transforms(out: Path, spec: SampleSpec, views: list[SampleView], buffers: list[ViewBuffers]) -> None:
    header = {
        "camera_model": "PINHOLE",
        "unit": "meter (ENU, z up)",
        "gps_origin_lat_lon_alt": list(GEO_ORIGIN),
        "exposure_unit": "shutter time (ms) x ISO",
        "ply_file_path": "points3D.ply",
        "source": SOURCE,
        "written_with": encoders(),
        "sample": asdict(spec),
    }
    true = [np.array(view.pose) for view in views]
    _write_frames(out / TRANSFORMS, header, spec, views, buffers, perturb_poses(views, spec))
    if spec.translation_noise or spec.rotation_noise:
        _write_frames(out / TRUE_TRANSFORMS, header, spec, views, buffers, true)


def _write_frames(
    path: Path,
    header: dict[str, Any],
    spec: SampleSpec,
    views: list[SampleView],
    buffers: list[ViewBuffers],
    poses: list[Float[np.ndarray, "3 4"]],
) -> None:
    """Write one frame per line, for readers and for diffs."""
    entries = [_entry(view, spec, files, pose) for view, files, pose in zip(views, buffers, poses, strict=True)]
    lines = ",\n".join("    " + json.dumps(entry, allow_nan=False) for entry in entries)
    text = format_json({**header, "frames": []})
    write_atomic(path, text.replace('"frames": []', f'"frames": [\n{lines}\n  ]'))


def _entry(view: SampleView, spec: SampleSpec, files: ViewBuffers, pose: Float[np.ndarray, "3 4"]) -> dict[str, Any]:
    opengl = pose * np.array([1.0, -1.0, -1.0, 1.0])
    true = np.array(view.pose)[:, 3]
    latitude, longitude = to_degrees(true[0], true[1])
    return {
        "file_path": f"images/{view.name}.jpg",
        "mask_path": files.mask,
        "sky_mask_path": files.sky,
        "w": spec.width,
        "h": spec.height,
        "fl_x": spec.focal,
        "fl_y": spec.focal,
        "cx": spec.width / 2,
        "cy": spec.height / 2,
        "camera_id": view.camera,
        "sequence_id": view.drive.name,
        "timestamp": round(view.drive.start + view.seconds, 4),
        "exposure": view.exposure,
        "gps": [latitude, longitude, round(GEO_ORIGIN[2] + true[2], 4)],
        "transform_matrix": [*(opengl + 0.0).tolist(), [0.0, 0.0, 0.0, 1.0]],
    }


def _write_jpeg(path: Path, image: UInt8[np.ndarray, "height width 3"], quality: int) -> None:
    from PIL import Image

    Image.fromarray(image).save(path, quality=quality, subsampling="4:2:0", optimize=True)


def _write_png(path: Path, image: UInt8[np.ndarray, "height width"] | Bool[np.ndarray, "height width"]) -> None:
    from PIL import Image

    Image.fromarray(image).save(path, optimize=True)
