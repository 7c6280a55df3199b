"""Writer of the records of Mission Bay from a drive through the sample town: TFRecords of tf.train.Example."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blocknerf.importers.tfrecord import crc32c
from tests.importers.town_log import CAMERAS, FOCAL, HEIGHT, WIDTH, Moment

UNIT = 100.0


def write_mission_bay(folder: Path, moments: list[Moment], *, packed: bool = True, bent: float = 0.0) -> Path:
    """Write the first two moments as training files and the last as a validation file.

    `bent` moves the origins of the lower rows along the street (m), and turns their rays by as many hundredths of a
    radian: a rolling shutter.
    """
    folder.mkdir(parents=True)
    names = [f"train.tfrecord-{i:05d}-of-01063" for i in range(len(moments) - 1)] + [
        "validation.tfrecord-00000-of-00373"
    ]
    for i, (name, moment) in enumerate(zip(names, moments, strict=True)):
        records = [example(features(moment, camera, bent), packed=packed) for camera in CAMERAS]
        data = b"".join(map(framed, records))
        path = folder / f"waymo_block_nerf_mission_bay_{name}"
        path.write_bytes(gzip.compress(data, 1) if i else data)  # the first is not compressed
    return folder


def features(moment: Moment, camera: str, bent: float = 0.0) -> dict[str, Any]:
    """Return the features of one image with a ray for each pixel, in units of the data set."""
    pose = moment.cameras[camera]
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
    late = np.linspace(-0.5, 0.5, HEIGHT)[:, None] * bent
    local = np.stack([x / FOCAL + late / 100, y / FOCAL, np.ones_like(x)], -1)
    directions = local @ pose[:3, :3].T
    origins = np.broadcast_to(pose[:3, 3], directions.shape) + late[..., None] * np.array([1.0, 0.0, 0.0])
    image = io.BytesIO()
    Image.fromarray(moment.image(camera)).save(image, "PNG", compress_level=1)
    return {
        "image_hash": np.array([identity(moment, camera)], np.int64),
        "cam_idx": np.array([CAMERAS.index(camera)], np.int64),
        "equivalent_exposure": np.array([moment.exposures[camera]], np.float32),
        "height": np.array([HEIGHT], np.int64),
        "width": np.array([WIDTH], np.int64),
        "image": image.getvalue(),
        "ray_origins": (origins / UNIT).astype(np.float32).ravel(),
        "ray_dirs": (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32).ravel(),
        "intrinsics": np.array([FOCAL, FOCAL], np.float32),
        "mask": moment.moving[camera].astype(np.int64).ravel(),
    }


def identity(moment: Moment, camera: str) -> int:
    """Return the hash of an image; real ones use all 64 bits, so some are negative."""
    return -(int(moment.timestamp * 10) * 16 + CAMERAS.index(camera))


def example(values: dict[str, Any], *, packed: bool = True) -> bytes:
    """Return a tf.train.Example in the wire format of protocol buffers."""
    entries = [field(1, field(1, name.encode()) + field(2, _feature(value, packed))) for name, value in values.items()]
    return field(1, b"".join(entries))


def framed(data: bytes) -> bytes:
    """Return data as a TFRecord with both checksums."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def field(number: int, body: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """Return an integer in groups of seven bits."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _feature(value: Any, packed: bool) -> bytes:
    if isinstance(value, bytes):
        return field(1, field(1, value))
    if value.dtype == np.float32:
        items = [item.tobytes() for item in value.astype("<f4")]
        return field(2, field(1, b"".join(items)) if packed else b"".join(b"\x0d" + item for item in items))
    one_byte = [varint(number) for number in range(2)]
    items = [one_byte[item] if 0 <= item < 2 else varint(item) for item in value.tolist()]
    return field(3, field(1, b"".join(items)) if packed else b"".join(b"\x08" + item for item in items))


def _masked(data: bytes) -> int:
    crc = crc32c(data)  # compared with a slow oracle in its test
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
