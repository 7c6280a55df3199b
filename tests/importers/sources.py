"""Small sources in the layouts of other programs, written from the same four frames."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from blocknerf.cameras import look_at
from blocknerf.images import write_image
from blocknerf.importers.colmap_files import MODEL_PARAMETERS

WIDTH, HEIGHT, FOCAL = 24, 16, 20.0
NAMES = ("0.png", "1.png", "2.png", "3.png")
POINTS = ((0.0, 9.0, 1.0, 255, 0, 10), (3.0, 12.0, 0.5, 1, 2, 3))
"""Position and color."""


def poses(count: int = 4) -> np.ndarray:
    """Return camera-to-world matrices [count, 3, 4] with OpenCV axes: a drive along x that looks along y, z up."""
    eyes = torch.tensor([[float(i), 0.1 * i * i, 1.5] for i in range(count)], dtype=torch.float64)
    return look_at(eyes, eyes + torch.tensor([0.3, 1.0, -0.1], dtype=torch.float64)).numpy()


def write_images(folder: Path, names: Sequence[str] = NAMES, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Write images of different brightness."""
    for i, name in enumerate(names):
        write_image(folder / name, np.full((size[1], size[0], 3), 40 * (i % 6) + 20, np.uint8))


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return the quaternion w, x, y, z of a rotation."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])


def rigid_inverse(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation and translation of the world-to-camera transform."""
    return pose[:, :3].T, -pose[:, :3].T @ pose[:, 3]


def write_colmap(
    folder: Path,
    names: Sequence[str] = NAMES,
    *,
    model: str = "PINHOLE",
    parameters: Sequence[float] = (FOCAL, FOCAL + 1, 12.5, 8.0),
    cameras: Sequence[int] | None = None,
    text: bool = False,
) -> None:
    """Write a COLMAP model of the frames with two points."""
    folder.mkdir(parents=True)
    numbers = [1] * len(names) if cameras is None else list(cameras)
    images = [
        (i + 1, *quaternion(rotation), *translation, numbers[i], name)
        for i, (name, (rotation, translation)) in enumerate(
            zip(names, map(rigid_inverse, poses(len(names))), strict=True)
        )
    ]
    (_write_text if text else _write_binary)(folder, sorted(set(numbers)), model, parameters, images)


def _write_binary(folder: Path, cameras: Sequence[int], model: str, parameters: Sequence[float], images: list) -> None:
    kind = list(MODEL_PARAMETERS).index(model)
    lenses = [struct.pack(f"<IiQQ{len(parameters)}d", n, kind, WIDTH, HEIGHT, *parameters) for n in cameras]
    (folder / "cameras.bin").write_bytes(struct.pack("<Q", len(cameras)) + b"".join(lenses))
    body = b"".join(
        struct.pack("<I7dI", *image[:9]) + image[9].encode() + b"\0" + struct.pack("<Qddq", 1, 3.0, 4.0, 1)
        for image in images
    )
    (folder / "images.bin").write_bytes(struct.pack("<Q", len(images)) + body)
    points = [struct.pack("<Q3d3BdQII", i, *point, 0.5, 1, 1, 0) for i, point in enumerate(POINTS)]
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", len(points)) + b"".join(points))


def _write_text(folder: Path, cameras: Sequence[int], model: str, parameters: Sequence[float], images: list) -> None:
    lens = " ".join(map(str, parameters))
    lines = [f"{n} {model} {WIDTH} {HEIGHT} {lens}" for n in cameras]
    (folder / "cameras.txt").write_text("\n".join(["# Camera list", *lines, ""]))
    # The second line lists observations and may be empty.
    rows = [" ".join(map(str, image)) + ("\n3.0 4.0 1\n" if i % 2 else "\n\n") for i, image in enumerate(images)]
    (folder / "images.txt").write_text("# Image list\n" + "".join(rows))
    points = [f"{i} {' '.join(map(str, point))} 0.5 1 0\n" for i, point in enumerate(POINTS)]
    (folder / "points3D.txt").write_text("# Points\n" + "".join(points))


def write_opensfm(folder: Path, camera: dict[str, Any] | None = None, **changes: Any) -> None:
    """Write a `reconstruction.json` of the frames with two points, at (47.5, 9.5, 400)."""
    lens = {"projection_type": "perspective", "width": WIDTH, "height": HEIGHT, "focal": FOCAL / WIDTH}
    shots = {}
    for i, (name, pose) in enumerate(zip(NAMES, poses(), strict=True)):
        rotation, translation = rigid_inverse(pose)
        shots[name] = {
            "rotation": cv2.Rodrigues(rotation)[0][:, 0].tolist(), "translation": translation.tolist(),
            "camera": "v2 phone", "capture_time": 100.0 + i, "gps_position": pose[:, 3].tolist(),
        }  # fmt: skip
    points = {str(i): {"coordinates": point[:3], "color": point[3:]} for i, point in enumerate(POINTS)}
    reconstruction = {
        "cameras": {"v2 phone": lens | (camera or {})}, "shots": shots, "points": points,
        "reference_lla": {"latitude": 47.5, "longitude": 9.5, "altitude": 400.0},
    } | changes  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reconstruction.json").write_text(json.dumps([{"cameras": {}, "shots": {}}, reconstruction]))


METASHAPE_LENS = "<f>20</f><cx>0.5</cx><cy>-0.25</cy><b1>1</b1><k1>0.1</k1><k2>0.2</k2><k3>0.3</k3><p1>0.01</p1>"


def write_metashape(file: Path, *, lens: str = METASHAPE_LENS, kind: str = "frame", transform: str = "") -> None:
    """Write Metashape's XML of the frames, one of them disabled and one not aligned."""
    cameras = []
    for i, (name, pose) in enumerate(zip(NAMES, poses(), strict=True)):
        numbers = " ".join(map(str, [*pose.ravel().tolist(), 0, 0, 0, 1]))
        matrix = f"<transform>{numbers}</transform>" if i != 2 else ""
        enabled = "false" if i == 3 else "true"
        cameras.append(
            f'<camera id="{i}" sensor_id="0" label="{Path(name).stem}" enabled="{enabled}">{matrix}</camera>'
        )
    sensor = (
        f'<sensor id="0" type="{kind}"><resolution width="{WIDTH}" height="{HEIGHT}"/>'
        f'<calibration type="{kind}" class="adjusted">{lens}</calibration></sensor>'
    )
    text = f"<sensors>{sensor}</sensors><cameras>{''.join(cameras)}</cameras>{transform}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'<?xml version="1.0"?><document version="2.0.0"><chunk>{text}</chunk></document>')


def arkit_matrices() -> np.ndarray:
    """Return the poses as ARKit has them: world y-up, camera x right, y up, z backward."""
    to_y_up = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    matrices = to_y_up @ poses()
    matrices[:, :, 1:3] *= -1.0
    return matrices


def write_polycam(folder: Path, *, corrected: bool) -> None:
    """Write Polycam's raw data of the frames."""
    prefix = "corrected_" if corrected else ""
    write_images(folder / "keyframes" / f"{prefix}images", [f"{100 + i}.jpg" for i in range(4)])
    (folder / "keyframes" / f"{prefix}cameras").mkdir()
    for i, matrix in enumerate(arkit_matrices()):
        entry = {f"t_{row}{column}": matrix[row, column] for row in range(3) for column in range(4)}
        entry |= {"fx": FOCAL, "fy": FOCAL + 1, "cx": 12.5, "cy": 8.0, "width": WIDTH, "height": HEIGHT}
        (folder / "keyframes" / f"{prefix}cameras" / f"{100 + i}.json").write_text(json.dumps(entry))


def write_record3d(folder: Path, **changes: Any) -> None:
    """Write a Record3D folder of the frames."""
    write_images(folder / "rgb", [f"{i}.jpg" for i in range(4)])
    numbers = []
    for matrix in arkit_matrices():
        w, x, y, z = quaternion(matrix[:, :3])
        numbers.append([x, y, z, w, *matrix[:, 3]])
    metadata = {"w": WIDTH, "h": HEIGHT, "fps": 30, "K": [FOCAL, 0, 0, 0, FOCAL + 1, 0, 12.5, 8.0, 1], "poses": numbers}
    (folder / "metadata.json").write_text(json.dumps(metadata | changes))
