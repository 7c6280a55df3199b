"""What a camera recorded with a photo (EXIF): lens, exposure, time, position and orientation."""

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from blocknerf.images import FORMATS, image_size

DIAGONAL_35MM = math.hypot(36.0, 24.0)
"""Diagonal of a full-frame sensor, in mm; equivalent focal lengths refer to it."""
MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0}
"""Millimeters in the unit of the resolution of the sensor: inch, centimeter, millimeter."""
_UP = {1: (0, -1), 2: (0, -1), 3: (0, 1), 4: (0, 1), 5: (-1, 0), 6: (-1, 0), 7: (1, 0), 8: (1, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoRecord:
    """What is known of a photo before any computation; None where the file does not say."""

    width: int
    """As stored; the orientation is not applied."""
    height: int
    camera: str = ""
    """Make and model of the camera."""
    focal: float | None = None
    """Focal length in pixels, as the camera states it; often wrong by tens of percent."""
    exposure: float | None = None
    """Exposure time (s) times ISO."""
    timestamp: float | None = None
    """Seconds since 1970; in the camera's local time if it did not record its time zone."""
    gps: tuple[float, float, float | None] | None = None
    """Latitude, longitude in degrees, altitude in meters."""
    gps_error: float | None = None
    """Horizontal error that the receiver stated, in meters."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""

    @property
    def up(self) -> tuple[int, int, int]:
        """Direction of the viewer's up in camera axes (x right, y down of the stored pixels)."""
        return (*_UP[self.orientation], 0)


def read_record(path: Path | str) -> PhotoRecord:
    """Return what the camera recorded; broken or implausible entries count as absent.

    Raises:
        CaptureError: the file is missing or not an image.
    """
    (width, height), tags = image_size(path), _entries(path)
    return PhotoRecord(
        width=width,
        height=height,
        camera=_camera(tags),
        focal=_known(lambda: _focal(tags, width, height)),
        exposure=_known(lambda: _positive(tags["ExposureTime"]) * _positive(_first(tags["ISOSpeedRatings"]))),
        timestamp=_known(lambda: _timestamp(tags)),
        gps=_gps(tags),
        gps_error=_known(lambda: _positive(tags["GPSHPositioningError"])),
        orientation=_known(lambda: _orientation(tags)) or 1,
    )


def _entries(path: Path | str) -> dict[str, Any]:
    """Return the entries by Pillow's names; none if they are broken."""
    from PIL import ExifTags, Image

    tags: dict[str, Any] = {}
    with suppress(Exception), warnings.catch_warnings():  # Pillow's parsers raise errors of any type.
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as image:
            exif = image.getexif()
            position = exif.get_ifd(ExifTags.IFD.GPSInfo)
            tags |= {ExifTags.GPSTAGS[key]: value for key, value in position.items() if key in ExifTags.GPSTAGS}
            for entries in (exif, exif.get_ifd(ExifTags.IFD.Exif)):
                tags |= {ExifTags.TAGS[key]: value for key, value in entries.items() if key in ExifTags.TAGS}
    return tags


def _known(read: Callable[[], Any]) -> Any:
    """Return a value, or None if the entries for it are absent or broken: cameras and editors write anything."""
    try:
        return read()
    except (KeyError, ValueError, TypeError, ArithmeticError, IndexError):
        return None


def _camera(tags: Mapping[str, Any]) -> str:
    make, model = (str(tags.get(key, "")).strip("\0 ") for key in ("Make", "Model"))
    return model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()


def _focal(tags: Mapping[str, Any], width: int, height: int) -> float:
    """Return the focal length in pixels of the stored image, also if the image was shrunk."""
    if tags.get("FocalLengthIn35mmFilm"):
        return _positive(tags["FocalLengthIn35mmFilm"]) / DIAGONAL_35MM * math.hypot(width, height)
    unit = MM_PER_UNIT[int(tags.get("FocalPlaneResolutionUnit", 2))]
    original = max(int(tags["ExifImageWidth"]), int(tags["ExifImageHeight"]))
    pixels_per_mm = _positive(tags["FocalPlaneXResolution"]) / unit
    return _positive(tags["FocalLength"]) * pixels_per_mm * max(width, height) / _positive(original)


def _timestamp(tags: Mapping[str, Any]) -> float:
    text = str(tags["DateTimeOriginal"]).strip("\0 ")
    zone = str(tags.get("OffsetTimeOriginal", "")).strip("\0 ") or "+00:00"
    try:
        moment = datetime.strptime(f"{text} {zone}", "%Y:%m:%d %H:%M:%S %z")
    except ValueError:
        moment = datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone.utc)
    digits = str(tags.get("SubsecTimeOriginal", "")).strip("\0 ")
    return moment.timestamp() + (float(f"0.{digits}") if digits.isdigit() else 0.0)


def _gps(tags: Mapping[str, Any]) -> tuple[float, float, float | None] | None:
    latitude = _known(lambda: _degrees(tags["GPSLatitude"], str(tags["GPSLatitudeRef"]), "NS", 90.0))
    longitude = _known(lambda: _degrees(tags["GPSLongitude"], str(tags["GPSLongitudeRef"]), "EW", 180.0))
    if latitude is None or longitude is None or (latitude, longitude) == (0.0, 0.0):  # written without a fix
        return None
    return latitude, longitude, _known(lambda: _altitude(tags))


def _degrees(parts: Any, reference: str, signs: str, limit: float) -> float:
    hemisphere = reference.strip("\0 ").upper()
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60.0 + seconds / 3600.0
    if hemisphere not in tuple(signs) or not 0.0 <= value <= limit:
        raise ValueError(reference)
    return -value if hemisphere == signs[1] else value


def _altitude(tags: Mapping[str, Any]) -> float:
    altitude = float(tags["GPSAltitude"])
    if not abs(altitude) < 20_000.0:
        raise ValueError(altitude)
    return -altitude if tags.get("GPSAltitudeRef") in (1, b"\x01") else altitude


def _orientation(tags: Mapping[str, Any]) -> int:
    orientation = int(tags["Orientation"])
    if orientation not in _UP:
        raise ValueError(orientation)
    return orientation


def _positive(value: Any) -> float:
    number = float(value)
    if not 0.0 < number < 1e9:
        raise ValueError(value)
    return number


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value
