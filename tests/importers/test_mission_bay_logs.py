"""Records of Mission Bay come back from TFRecords as they were written."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.errors import CaptureError
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from blocknerf.importers.tfrecord import crc32c, parse_example, read_records
from tests.importers.log_checks import check_poses, refusal
from tests.importers.town_log import CAMERAS, FOCAL, HEIGHT, WIDTH, Moment
from tests.importers.write_mission_bay import example, features, framed, identity, write_mission_bay


def _name(moment: Moment, camera: str) -> str:
    return f"cam_{CAMERAS.index(camera):02d}/{identity(moment, camera) & (2**64 - 1):016x}.png"


@pytest.mark.parametrize("packed", [True, False])
def test_records(tmp_path: Path, moments: list[Moment], packed: bool) -> None:
    folder = write_mission_bay(tmp_path / "records", moments, packed=packed)
    capture = load_source(folder, work=tmp_path / "work")
    images = {_name(moment, camera): (moment, camera) for moment in moments for camera in CAMERAS}
    check_poses(capture, {name: moment.cameras[camera] for name, (moment, camera) in images.items()}, tolerance=2e-6)
    for index, frame in enumerate(capture.frames):
        moment, camera = images[frame.name]
        assert (frame.intrinsics.fx, frame.intrinsics.cx) == (np.float32(FOCAL), WIDTH / 2)
        assert frame.intrinsics.size == (WIDTH, HEIGHT)
        assert frame.exposure == pytest.approx(moment.exposures[camera], rel=1e-6)
        assert frame.split == ("val" if moment is moments[-1] else "train")
        assert np.array_equal(capture.read_image(index), moment.image(camera))
        mask = capture.read_mask(index)
        assert np.array_equal(~moment.moving[camera], np.ones_like(moment.moving[camera]) if mask is None else mask)
    assert "one unit of the records is taken as 100 m (--world-unit)" in capture.notes
    assert not any("rolling shutter" in note or "warning" in note for note in capture.notes)


def test_the_unit_is_an_option(tmp_path: Path, moments: list[Moment]) -> None:
    folder = write_mission_bay(tmp_path / "records", moments)
    in_meters = load_source(folder, work=tmp_path / "work")
    in_units = load_source(folder, ImportOptions(world_unit=1.0), tmp_path / "work")
    np.testing.assert_allclose(in_meters.frames[0].center, np.multiply(in_units.frames[0].center, 100.0), rtol=1e-9)


def test_rolling_shutter_is_said(tmp_path: Path, moments: list[Moment]) -> None:
    folder = write_mission_bay(tmp_path / "records", moments, bent=0.5)
    capture = load_source(folder, work=tmp_path / "work")
    assert "ray origins of an image differ by up to 0.25 m (rolling shutter); their mean is used" in capture.notes
    assert not any("warning" in note for note in capture.notes)
    bent = write_mission_bay(tmp_path / "bent", moments, bent=8.0)
    notes = load_source(bent, work=tmp_path / "work2").notes
    assert any("warning: the rays of 9 of 9 images do not fit a pinhole camera" in note for note in notes)


def test_a_stopped_import_continues(tmp_path: Path, moments: list[Moment], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mission_bay(tmp_path / "records", moments)
    validation = next(folder.glob("*validation*"))
    content = validation.read_bytes()
    validation.write_bytes(content[:-1000])
    assert "its gzip data are broken or cut short" in refusal(folder, tmp_path / "work")
    done = sorted(path.name for path in (tmp_path / "work" / "records").iterdir())
    assert [name.split("_")[-1] for name in done] == [f"train.tfrecord-{i:05d}-of-01063.json" for i in range(2)]
    validation.write_bytes(content)
    opened: list[Path] = []

    def spy(path: Path) -> Any:
        opened.append(path)
        return read_records(path)

    monkeypatch.setattr("blocknerf.importers.mission_bay.read_records", spy)
    capture = load_source(folder, work=tmp_path / "work")
    assert opened == [validation]
    assert len(capture) == 9
    assert load_source(folder, work=tmp_path / "work") == capture
    assert opened == [validation]


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda values: values.pop(key)


def _with(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: values.update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("ray_dirs"), "record 0: ray_dirs is missing or not of its type"),
        (_without("image"), "record 0: image is not a PNG"),
        (_with("mask", np.zeros(5, np.int64)), f"mask has 5 values instead of {WIDTH * HEIGHT}"),
        (_with("ray_dirs", np.zeros(WIDTH * HEIGHT * 3, np.float32)), "ray_dirs hold a zero"),
        (_with("ray_origins", np.full(WIDTH * HEIGHT * 3, np.nan, np.float32)), "ray_origins holds NaN or infinity"),
        (_with("width", np.array([10**12])), "image size 1000000000000x108 is impossible"),
        (_with("intrinsics", np.array([1.0], np.float32)), "intrinsics are not two focal lengths"),
    ],
)
def test_wrong_records_are_refused(
    tmp_path: Path, moments: list[Moment], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    values = features(moments[0], "forward")
    change(values)
    path = tmp_path / "waymo_block_nerf_mission_bay_train.tfrecord-00000-of-01063"
    path.write_bytes(framed(example(values)))
    assert message in refusal(path, tmp_path / "work")


def _flip(position: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip(0), "record 0: the checksum of its length is wrong"),
        (_flip(9), "record 0: the checksum of its length is wrong"),
        (_flip(50), "record 0: the checksum of its data is wrong"),
        (_flip(-1), "record 0: the checksum of its data is wrong"),
        (lambda data: data[:-10], "record 0: cut short"),
        (lambda data: data[:5], "record 0: cut short"),
        (lambda data: data + data[:8], "record 1: cut short"),
        (lambda data: gzip.compress(data)[:-20], "its gzip data are broken or cut short"),
        (lambda data: framed(b"\xff" * 40), "record 0: is not a tf.train.Example"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "a_train.tfrecord"
    path.write_bytes(damage(framed(example({"mask": np.arange(100), "intrinsics": np.ones(9, np.float32)}))))
    with pytest.raises(CaptureError) as caught:
        [parse_example(data, f"{path}: record 0") for data in read_records(path)]
    assert message in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 8191, 8192, 8193, 20_001])
def test_checksum_is_that_of_the_slow_oracle(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    assert crc32c(data) == _slow_crc32c(data)


def _slow_crc32c(data: bytes) -> int:
    """Return the CRC-32C by its definition, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
