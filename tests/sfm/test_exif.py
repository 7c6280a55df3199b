"""What a camera recorded is read exactly, and broken entries count as absent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from blocknerf.sfm.exif import read_record

WIDTH, HEIGHT = 40, 30
EXIF = ExifTags.Base
GPS = ExifTags.GPS


def photo(path: Path, entries: dict[int, Any], gps: dict[int, Any] | None = None) -> Path:
    exif = Image.Exif()
    own = {EXIF.Make, EXIF.Model, EXIF.Orientation}
    for key, value in entries.items():
        if key in own:
            exif[key] = value
        else:
            exif.get_ifd(ExifTags.IFD.Exif)[key] = value
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path, exif=exif)
    return path


def test_a_photo_without_entries_has_only_its_size(tmp_path: Path) -> None:
    record = read_record(photo(tmp_path / "a.jpg", {}))
    assert (record.width, record.height, record.orientation, record.camera) == (WIDTH, HEIGHT, 1, "")
    assert record.focal is record.exposure is record.timestamp is record.gps is None


def test_exposure_time_and_camera(tmp_path: Path) -> None:
    entries = {
        EXIF.Make: "Canon",
        EXIF.Model: "Canon S1",
        EXIF.ExposureTime: 0.01,
        EXIF.ISOSpeedRatings: 200,
        EXIF.DateTimeOriginal: "2014:10:19 13:20:51",
        EXIF.SubsecTimeOriginal: "25",
        EXIF.OffsetTimeOriginal: "+02:00",
    }
    record = read_record(photo(tmp_path / "a.jpg", entries))
    assert record.camera == "Canon S1"
    assert record.exposure == pytest.approx(2.0)
    assert record.timestamp == pytest.approx(1413724851.25 - 7200.0)


@pytest.mark.parametrize(
    ("entries", "focal"),
    [
        ({EXIF.FocalLengthIn35mmFilm: 35}, 35.0 / 43.2666 * 50.0),
        # A sensor of 4000 pixels, 100 per mm, shrunk a hundredfold.
        (
            {
                EXIF.FocalLength: 5.0,
                EXIF.FocalPlaneXResolution: 1000.0,
                EXIF.FocalPlaneResolutionUnit: 3,
                EXIF.ExifImageWidth: 4000,
                EXIF.ExifImageHeight: 3000,
            },
            5.0,
        ),
        ({EXIF.FocalLength: 5.0}, None),
        ({EXIF.FocalLengthIn35mmFilm: 0}, None),
    ],
)
def test_focal_length_in_pixels(entries: dict[int, Any], focal: float | None, tmp_path: Path) -> None:
    found = read_record(photo(tmp_path / "a.jpg", entries)).focal
    assert found == (None if focal is None else pytest.approx(focal, rel=1e-3))


NORTH_EAST = {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (55.0, 30.0, 36.0), GPS.GPSLongitudeRef: "E"}
NORTH_EAST[GPS.GPSLongitude] = (13.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({GPS.GPSAltitude: 37.0}, (55.51, 13.0, 37.0)),
        ({GPS.GPSAltitude: 37.0, GPS.GPSAltitudeRef: b"\x01"}, (55.51, 13.0, -37.0)),
        ({GPS.GPSLatitudeRef: "S", GPS.GPSLongitudeRef: "W"}, (-55.51, -13.0, None)),
        ({GPS.GPSLatitude: (95.0, 0.0, 0.0)}, None),
        ({GPS.GPSLatitudeRef: "X"}, None),
        ({GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)}, None),
    ],
)
def test_position(changes: dict[int, Any], expected: tuple[float, float, float | None] | None, tmp_path: Path) -> None:
    found = read_record(photo(tmp_path / "a.jpg", {}, NORTH_EAST | changes)).gps
    assert found == (None if expected is None else (*map(pytest.approx, expected[:2]), expected[2]))


@pytest.mark.parametrize(("orientation", "up"), [(1, (0, -1, 0)), (3, (0, 1, 0)), (6, (-1, 0, 0)), (8, (1, 0, 0))])
def test_the_viewers_up_follows_the_orientation(orientation: int, up: tuple[int, int, int], tmp_path: Path) -> None:
    """Pillow turns an image with a white edge at `up` in such a way that the edge is at the top."""
    from PIL import ImageOps

    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    edge = {(0, -1): np.s_[:8], (0, 1): np.s_[-8:], (-1, 0): np.s_[:, :8], (1, 0): np.s_[:, -8:]}
    pixels[edge[up[:2]]] = 255
    exif = Image.Exif()
    exif[EXIF.Orientation] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    record = read_record(path)
    assert (record.up, (record.width, record.height)) == (up, (WIDTH, HEIGHT))
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    assert shown[:4].mean() == 255.0


@pytest.mark.parametrize("orientation", [0, 9, 60000])
def test_an_impossible_orientation_is_ignored(orientation: int, tmp_path: Path) -> None:
    assert read_record(photo(tmp_path / "a.jpg", {EXIF.Orientation: orientation})).orientation == 1


def test_broken_entries_count_as_absent(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", {EXIF.DateTimeOriginal: "yesterday", EXIF.ExposureTime: 0.01})
    data = bytearray(path.read_bytes())
    start = data.index(b"Exif\0\0")
    data[start + 20 : start + 40] = b"\xff" * 20
    path.write_bytes(data)
    record = read_record(path)
    assert (record.width, record.timestamp) == (WIDTH, None)
