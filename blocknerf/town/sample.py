"""The sample city as a capture on disk: photographs, masks, poses, points, map."""

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
from blocknerf.files import format_json, read_json, write_atomic
from blocknerf.images import to_uint8
from blocknerf.town.osm_writer import GEO_ORIGIN, osm_xml, to_degrees
from blocknerf.town.rig import RIG
from blocknerf.town.town import RaycastResult, Town
from blocknerf.town.views import SampleSpec, SampleView, perturb_poses, plan_views, render_view

SOURCE = "blocknerf sample"
"""Says in `transforms.json` that the folder is ours to replace."""
TRANSFORMS, TRUE_TRANSFORMS = "transforms.json", "transforms_true.json"
CLEAR_MASK = "masks/clear.png"
"""One mask for all photographs without a moving car."""
POINTS_PER_FRAME = 12
POINT_RANGE = 60.0
"""Points are taken no farther from the camera than a reconstruction would find them (m)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewBuffers:
    """What taking a photograph leaves behind besides the picture."""

    mask: str
    """Path of its mask in the folder."""
    sky: str
    """Path of its sky mask."""
    points: PointCloud
    """A few points that it sees."""


def write_sample(town: Town, out: Path, spec: SampleSpec) -> Iterator[SampleView]:
    """Write a capture into an empty folder, yielding each shot once it is on disk (for a progress bar)."""
    shots, taken = plan_views(spec), []
    for shot in shots:
        taken.append(write_view(town, out, shot, spec))
        yield shot
    clouds = [each.points for each in taken]
    positions, colors = (
        np.concatenate(parts) for parts in zip(*((c.positions, c.colors) for c in clouds), strict=True)
    )
    write_ply(PointCloud(positions=positions, colors=colors), out / "points3D.ply")
    write_atomic(out / "streets.osm", osm_xml())
    _write_transforms(out, spec, shots, taken)
    write_atomic(out / "README.md", readme(spec))


def write_view(town: Town, out: Path, shot: SampleView, spec: SampleSpec) -> ViewBuffers:
    """Write one photograph, where its sky is, and its mask where a car moves in it."""
    view = render_view(town, shot, spec)
    picture, moving = to_uint8(view.color), _grown(view.moving.numpy())
    mask = f"masks/{shot.name}.png" if moving.any() else CLEAR_MASK
    sky_mask = f"skies/{shot.name}.png"
    for folder in ("images", "masks", "skies"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _write_jpeg(out / "images" / f"{shot.name}.jpg", picture, spec.jpeg_quality)
    _write_png(out / mask, np.where(moving, 0, 255).astype(np.uint8))
    _write_png(out / sky_mask, np.isinf(view.depth.numpy()))
    return ViewBuffers(mask=mask, sky=sky_mask, points=_sample_points(view, picture, moving, shot, spec))


def read_spec(out: Path) -> SampleSpec | None:
    """What an existing sample holds; None if the folder is not a sample of ours."""
    try:
        data = read_json(out / TRANSFORMS, "sample")
        if data["source"] != SOURCE:
            return None
        return SampleSpec(**data["sample"])
    except (RunError, KeyError, TypeError):
        return None


def encoders() -> dict[str, str]:
    """Versions of what turns pixels into files here: the same versions write the same bytes."""
    import PIL
    from PIL import features

    codecs = {name: str(features.version(name)) for name in ("libjpeg_turbo", "zlib")}
    return {"pillow": PIL.__version__, **codecs}


def command(spec: SampleSpec, out: str) -> str:
    """The command line that writes a sample again."""
    words = ["blocknerf", "sample", out]
    for field in fields(spec):
        value = getattr(spec, field.name)
        if value != field.default:
            words += ["--" + field.name.replace("_", "-"), str(value)]
    return " ".join(words)


def readme(spec: SampleSpec) -> str:
    """A page on what the folder holds and the command that wrote it."""
    count = spec.drives * spec.positions * len(RIG)
    true = "Poses are exact."
    if spec.translation_noise or spec.rotation_noise:
        true = f"Poses of\neach drive are displaced together; the true ones stand in `{TRUE_TRANSFORMS}`."
    return f"""# A sample city

{count} photographs ({spec.width}x{spec.height}) of an analytic town: {spec.drives} drives of a car with three
cameras, each at its own hour (noon, dusk, overcast), with cars that move (masked) and an exposure for every frame.
Everything is computed (`blocknerf/town`); nobody's photographs are in it. {true}

Written, byte for byte where `written_with` in `transforms.json` names the encoders installed, by

    {command(spec, "data_samples/mini_city" if spec == SampleSpec() else "OUT")}

- `transforms.json`: nerfstudio's form; poses are OpenGL camera to world, metres, east-north-up; `exposure` is shutter
  time (ms) x ISO; `sequence_id` is the drive, `camera_id` the camera on the car, `gps` the true position.
- `images/`, `masks/` (black: a moving car, to be ignored; its shadow is not masked), `skies/` (white: sky).
- `points3D.ply`: a few thousand points of exact depth. `streets.osm`: the town's streets as an OpenStreetMap extract.
"""


def _sample_points(
    view: RaycastResult,
    picture: UInt8[np.ndarray, "height width 3"],
    moving: Bool[np.ndarray, "height width"],
    shot: SampleView,
    spec: SampleSpec,
) -> PointCloud:
    """Points of a photograph's surfaces at a few scattered pixels."""
    rng = Random(f"points/{spec.seed}/{shot.name}")
    rows = np.array([rng.randrange(spec.height) for _ in range(POINTS_PER_FRAME)])
    columns = np.array([rng.randrange(spec.width) for _ in range(POINTS_PER_FRAME)])
    depth = view.depth.numpy().astype(np.float64)[rows, columns]
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
    pose = np.array(shot.pose)
    # Spelled out: a matrix product may sum in another order on another machine.
    turned = sum(local[:, axis, None] * pose[None, :, axis] for axis in range(3))
    return PointCloud(positions=(turned + pose[:, 3]).astype(np.float32), colors=picture[rows, columns])


def _grown(moving: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The mask with a margin of one pixel: a car's edge shines through the pixels beside it."""
    padded = np.pad(moving, 1)
    height, width = moving.shape
    shifts = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.logical_or.reduce(shifts)


def _write_transforms(out: Path, spec: SampleSpec, shots: list[SampleView], taken: list[ViewBuffers]) -> None:
    head = {
        "camera_model": "PINHOLE",
        "unit": "metre (ENU, z up)",
        "gps_origin_lat_lon_alt": list(GEO_ORIGIN),
        "exposure_unit": "shutter time (ms) x ISO",
        "ply_file_path": "points3D.ply",
        "source": SOURCE,
        "written_with": encoders(),
        "sample": asdict(spec),
    }
    true = [np.array(shot.pose) for shot in shots]
    _write_frames(out / TRANSFORMS, head, spec, shots, taken, perturb_poses(shots, spec))
    if spec.translation_noise or spec.rotation_noise:
        _write_frames(out / TRUE_TRANSFORMS, head, spec, shots, taken, true)


def _write_frames(
    path: Path,
    head: dict[str, Any],
    spec: SampleSpec,
    shots: list[SampleView],
    taken: list[ViewBuffers],
    poses: list[Float[np.ndarray, "3 4"]],
) -> None:
    """One frame a line, for people and for diffs."""
    entries = [_entry(shot, spec, each, pose) for shot, each, pose in zip(shots, taken, poses, strict=True)]
    lines = ",\n".join("    " + json.dumps(entry, allow_nan=False) for entry in entries)
    text = format_json({**head, "frames": []})
    write_atomic(path, text.replace('"frames": []', f'"frames": [\n{lines}\n  ]'))


def _entry(shot: SampleView, spec: SampleSpec, taken: ViewBuffers, pose: Float[np.ndarray, "3 4"]) -> dict[str, Any]:
    opengl = pose * np.array([1.0, -1.0, -1.0, 1.0])
    true = np.array(shot.pose)[:, 3]
    latitude, longitude = to_degrees(true[0], true[1])
    return {
        "file_path": f"images/{shot.name}.jpg",
        "mask_path": taken.mask,
        "sky_mask_path": taken.sky,
        "w": spec.width,
        "h": spec.height,
        "fl_x": spec.focal,
        "fl_y": spec.focal,
        "cx": spec.width / 2,
        "cy": spec.height / 2,
        "camera_id": shot.camera,
        "sequence_id": shot.drive.name,
        "timestamp": round(shot.drive.start + shot.seconds, 4),
        "exposure": shot.exposure,
        "gps": [latitude, longitude, round(GEO_ORIGIN[2] + true[2], 4)],
        "transform_matrix": [*(opengl + 0.0).tolist(), [0.0, 0.0, 0.0, 1.0]],
    }


def _write_jpeg(path: Path, picture: UInt8[np.ndarray, "height width 3"], quality: int) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, quality=quality, subsampling="4:2:0", optimize=True)


def _write_png(path: Path, picture: UInt8[np.ndarray, "height width"] | Bool[np.ndarray, "height width"]) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, optimize=True)
