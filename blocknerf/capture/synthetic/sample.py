"""The sample city as a capture on disk: photographs, masks, poses, points, map."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from math import radians, tan
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from blocknerf.cameras import Cameras
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.capture.synthetic.map_extract import GEO_ORIGIN, street_map, to_degrees
from blocknerf.capture.synthetic.rig import RIG, SPEED, Drive, Route, camera_pose, place_stops, plan_drives
from blocknerf.capture.synthetic.town import Cast, Town
from blocknerf.capture.synthetic.traffic import moving_cars
from blocknerf.files import format_json, write_atomic
from blocknerf.geometry import compose, se3_exp
from blocknerf.images import to_uint8

SOURCE = "blocknerf sample"
"""Says in `transforms.json` that the folder is ours to replace."""
TRANSFORMS, TRUE_TRANSFORMS = "transforms.json", "transforms_true.json"
CLEAR_MASK = "masks/clear.png"
"""One mask for all photographs without a moving car."""
POINTS_PER_FRAME = 12
POINT_RANGE = 60.0
"""Points are taken no farther from the camera than a reconstruction would find them (m)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """What a sample holds."""

    width: int = 192
    height: int = 108
    drives: int = 3
    """They take turns in hour (noon, dusk, overcast) and direction."""
    stops: int = 25
    """Places along each drive where all three cameras take a photograph."""
    route: Route = "main"
    field_of_view: float = 76.0
    """From side to side of a photograph (degrees)."""
    pose_error: float = 0.0
    """Length of the shift that displaces the poses of each drive (m)."""
    turn_error: float = 0.0
    """Angle that turns the poses of each drive about their middle (degrees)."""
    seed: int = 0
    changed_building: int | None = None
    supersample: int = 2
    """Rays along each side of a pixel."""
    quality: int = 88
    """Of the JPEGs."""

    @property
    def focal(self) -> float:
        """In pixels."""
        return round(self.width / 2 / tan(radians(self.field_of_view) / 2), 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One photograph to take."""

    name: str
    drive: Drive
    camera: str
    seconds: float
    """Since the drive's start."""
    exposure: float
    pose: tuple[tuple[float, ...], ...]
    """True camera to world (OpenCV axes), as written to the file: what is rendered is what is said."""


def plan_shots(spec: SampleSpec) -> list[Shot]:
    """All photographs in the order of the file: by drive, stop and camera, so that every 8th is of any camera."""
    shots = []
    for drive in plan_drives(spec.drives, spec.route):
        for stop, (x, y, heading, distance) in enumerate(place_stops(drive.waypoints, spec.stops)):
            for camera, mount in enumerate(RIG):
                pose = camera_pose(x, y, heading, mount).round(8)
                shots.append(
                    Shot(
                        name=f"{drive.name}_{stop:03d}_{mount.name}",
                        drive=drive,
                        camera=mount.name,
                        seconds=distance / SPEED,
                        exposure=drive.exposure(stop, camera),
                        pose=tuple(tuple(row) for row in pose.tolist()),
                    )
                )
    return shots


def shoot(town: Town, shot: Shot, spec: SampleSpec) -> Cast:
    """The photograph of a shot, with its depth and where cars move."""
    cameras = Cameras.pinhole(
        torch.tensor([shot.pose], dtype=torch.float64), focal=spec.focal, width=spec.width, height=spec.height
    )
    cars = moving_cars(shot.drive, shot.seconds)
    return town.render(cameras, 0, shot.drive.hour, shot.exposure, cars=cars, supersample=spec.supersample)


def write_sample(town: Town, out: Path, spec: SampleSpec) -> Iterator[Shot]:
    """Write a capture into an empty folder, yielding each shot once it is on disk (for a progress bar)."""
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    shots = plan_shots(spec)
    _write_png(out / CLEAR_MASK, np.full((spec.height, spec.width), 255, np.uint8))
    masks, points, colors = {}, [], []
    for shot in shots:
        view = shoot(town, shot, spec)
        picture = to_uint8(view.color)
        _write_jpeg(out / "images" / f"{shot.name}.jpg", picture, spec.quality)
        moving = _grown(view.moving.numpy())
        masks[shot.name] = f"masks/{shot.name}.png" if moving.any() else CLEAR_MASK
        if moving.any():
            _write_png(out / masks[shot.name], np.where(moving, 0, 255).astype(np.uint8))
        found, shade = _sample_points(view, picture, moving, shot, spec)
        points.append(found)
        colors.append(shade)
        yield shot
    write_ply(
        PointCloud(positions=np.concatenate(points).astype(np.float32), colors=np.concatenate(colors)),
        out / "points3D.ply",
    )
    write_atomic(out / "streets.osm", street_map())
    _write_transforms(out, spec, shots, masks)
    write_atomic(out / "README.md", readme(spec))


def read_spec(out: Path) -> SampleSpec | None:
    """What an existing sample holds; None if the folder is not a sample of ours."""
    try:
        data = json.loads((out / TRANSFORMS).read_text())
        if data["source"] != SOURCE:
            return None
        return SampleSpec(**data["sample"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
    count = spec.drives * spec.stops * len(RIG)
    true = "Poses are exact."
    if spec.pose_error or spec.turn_error:
        true = f"Poses of each drive are displaced together; the true ones stand in `{TRUE_TRANSFORMS}`."
    return f"""# A sample city

{count} photographs ({spec.width}x{spec.height}) of an analytic town: {spec.drives} drives of a car with three
cameras, each at its own hour (noon, dusk, overcast), with cars that move (masked) and an exposure for every frame.
Everything is computed (`blocknerf/capture/synthetic`); nobody's photographs are in it. {true}

Written, byte for byte with the pinned versions of Pillow, NumPy and Numba, by

    {command(spec, "data_samples/mini_city" if spec == SampleSpec() else "OUT")}

- `transforms.json`: nerfstudio's form; poses are OpenGL camera to world, metres, east-north-up; `exposure` is shutter
  time (ms) x ISO; `sequence_id` is the drive, `camera_id` the camera on the car, `gps` the true position.
- `images/`, `masks/` (black: a moving car, to be ignored; its shadow is not masked).
- `points3D.ply`: a few thousand points of exact depth. `streets.osm`: the town's streets as an OpenStreetMap extract.
"""


def _sample_points(
    view: Cast,
    picture: UInt8[np.ndarray, "height width 3"],
    moving: Bool[np.ndarray, "height width"],
    shot: Shot,
    spec: SampleSpec,
) -> tuple[Float[np.ndarray, "points 3"], UInt8[np.ndarray, "points 3"]]:
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
    return turned + pose[:, 3], picture[rows, columns]


def _grown(moving: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The mask with a margin of one pixel: a car's edge shines through the pixels beside it."""
    padded = np.pad(moving, 1)
    height, width = moving.shape
    shifts = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.logical_or.reduce(shifts)


def _write_transforms(out: Path, spec: SampleSpec, shots: list[Shot], masks: dict[str, str]) -> None:
    head = {
        "camera_model": "PINHOLE",
        "unit": "metre (ENU, z up)",
        "gps_origin_lat_lon_alt": list(GEO_ORIGIN),
        "exposure_unit": "shutter time (ms) x ISO",
        "ply_file_path": "points3D.ply",
        "source": SOURCE,
        "sample": asdict(spec),
    }
    true = {shot.name: np.array(shot.pose) for shot in shots}
    noisy = _displaced(true, shots, spec)
    frames = [_entry(shot, spec, masks[shot.name], noisy[shot.name]) for shot in shots]
    write_atomic(out / TRANSFORMS, _one_frame_a_line(head, frames))
    if spec.pose_error or spec.turn_error:
        frames = [_entry(shot, spec, masks[shot.name], true[shot.name]) for shot in shots]
        write_atomic(out / TRUE_TRANSFORMS, _one_frame_a_line(head, frames))


def _displaced(
    true: dict[str, Float[np.ndarray, "3 4"]], shots: list[Shot], spec: SampleSpec
) -> dict[str, Float[np.ndarray, "3 4"]]:
    """Poses as a drive's navigation would report them: each drive is shifted, and turned about its middle."""
    if not (spec.pose_error or spec.turn_error):
        return true
    moved = {}
    for drive in {shot.drive.name: shot.drive for shot in shots}.values():
        names = [shot.name for shot in shots if shot.drive.name == drive.name]
        poses = torch.from_numpy(np.stack([true[name] for name in names]))
        middle = poses[:, :, 3].mean(0)
        rng = Random(f"pose/{spec.seed}/{drive.name}")
        shift, turn = (_direction(rng) for _ in range(2))
        offset = se3_exp(torch.cat([torch.zeros(3), turn * radians(spec.turn_error)]).double())
        offset = torch.cat([offset[:, :3], (middle + shift * spec.pose_error - offset[:, :3] @ middle)[:, None]], -1)
        for name, pose in zip(names, compose(offset.expand(len(names), 3, 4), poses), strict=True):
            moved[name] = pose.numpy().round(8)
    return moved


def _direction(rng: Random) -> torch.Tensor:
    """A unit vector, uniform over the sphere."""
    return torch.nn.functional.normalize(torch.tensor([rng.gauss(0.0, 1.0) for _ in range(3)]).double(), dim=0)


def _entry(shot: Shot, spec: SampleSpec, mask: str, pose: Float[np.ndarray, "3 4"]) -> dict[str, Any]:
    opengl = pose * np.array([1.0, -1.0, -1.0, 1.0])
    true = np.array(shot.pose)[:, 3]
    latitude, longitude = to_degrees(true[0], true[1])
    return {
        "file_path": f"images/{shot.name}.jpg",
        "mask_path": mask,
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


def _one_frame_a_line(head: dict[str, Any], frames: list[dict[str, Any]]) -> str:
    text = format_json({**head, "frames": []})
    lines = ",\n".join("    " + json.dumps(frame, allow_nan=False) for frame in frames)
    return text.replace('"frames": []', f'"frames": [\n{lines}\n  ]')


def _write_jpeg(path: Path, picture: UInt8[np.ndarray, "height width 3"], quality: int) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, quality=quality, subsampling="4:2:0", optimize=True)


def _write_png(path: Path, picture: UInt8[np.ndarray, "height width"]) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, optimize=True)
