"""Tables of nuScenes (Caesar et al., CVPR 2020): JSON lists of records that refer to each other by tokens."""

from pathlib import Path
from typing import TypeVar

import msgspec

from blocknerf.errors import CaptureError
from blocknerf.json_file import JsonFile
from blocknerf.values import format_value

MAX_TABLE_BYTES = 4 << 30
"""Maximum size of a table; `sample_data.json` of the whole data set takes 1.2 GB."""
Numbers3 = tuple[float, float, float]
Numbers4 = tuple[float, float, float, float]


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record; keys that are not needed are ignored."""

    token: str


class Scene(Row, frozen=True, gc=False):
    name: str
    log_token: str


class Log(Row, frozen=True, gc=False):
    location: str
    logfile: str = ""


class Sample(Row, frozen=True, gc=False):
    """A moment with annotations: a key frame of all sensors."""

    timestamp: int
    """Microseconds."""
    scene_token: str


class SampleData(Row, frozen=True, gc=False):
    """One measurement of one sensor."""

    sample_token: str
    ego_pose_token: str
    calibrated_sensor_token: str
    timestamp: int
    is_key_frame: bool
    filename: str
    width: int | None = None
    height: int | None = None


class EgoPose(Row, frozen=True, gc=False):
    translation: Numbers3
    rotation: Numbers4
    """Quaternion w, x, y, z."""


class CalibratedSensor(Row, frozen=True, gc=False):
    sensor_token: str
    translation: Numbers3
    rotation: Numbers4
    camera_intrinsic: list[Numbers3]
    """Three rows for a camera, none for other sensors."""


class Sensor(Row, frozen=True, gc=False):
    channel: str
    modality: str


class Annotation(Row, frozen=True, gc=False):
    """A box in one key frame, in the world."""

    sample_token: str
    instance_token: str
    translation: Numbers3
    """Center."""
    size: Numbers3
    """Width, length, height."""
    rotation: Numbers4


class Instance(Row, frozen=True, gc=False):
    category_token: str


class Category(Row, frozen=True, gc=False):
    name: str


NAMES: dict[type[Row], str] = {
    Scene: "scene", Log: "log", Sample: "sample", SampleData: "sample_data", EgoPose: "ego_pose", Sensor: "sensor",
    CalibratedSensor: "calibrated_sensor", Annotation: "sample_annotation", Instance: "instance", Category: "category",
}  # fmt: skip

AnyRow = TypeVar("AnyRow", bound=Row)


def read_table(folder: Path, row: type[AnyRow]) -> list[AnyRow]:
    """Return all records of a table.

    Raises:
        CaptureError: the file is missing, or a record lacks a key or holds a value of another type.
    """
    file = JsonFile(content=list[row], what="nuScenes table", remedy="restore the tables", error=CaptureError)  # type: ignore[valid-type]
    return file.read(table_path(folder, row), MAX_TABLE_BYTES)


def table_path(folder: Path, row: type[Row]) -> Path:
    """Return the file of a table."""
    return folder / f"{NAMES[row]}.json"


def find(rows: dict[str, AnyRow], token: str, folder: Path, row: type[AnyRow]) -> AnyRow:
    """Return the record with a token.

    Raises:
        CaptureError: there is none.
    """
    if token not in rows:
        raise CaptureError(f"{table_path(folder, row)}: has no token {format_value(token)}; restore the tables")
    return rows[token]
