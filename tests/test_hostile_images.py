"""Image files that are truncated, damaged, too large, of an unsupported format, or not regular files."""

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blocknerf.errors import CaptureError
from blocknerf.images import MAX_IMAGE_PIXELS, check_image, image_size, read_image, read_mask, write_image

HEIGHT, WIDTH = 40, 48
READERS = (read_image, read_mask, check_image)


def pixels() -> np.ndarray:
    """Return bright tiles with some noise: no format compresses them to a few bytes, and no row is black or gray."""
    rng = np.random.default_rng(3)
    tiles = rng.integers(140, 250, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
    return (tiles + rng.integers(0, 6, tiles.shape)).astype(np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or Image.fromarray(pixels())).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows: int = HEIGHT, *, missing: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT), depth: int = 8) -> bytes:
    """Return a PNG with intact chunks, only the first rows, and without the last `missing` bytes of their stream."""
    stream = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels()[:rows]))
    header = struct.pack(">IIBBBBB", *size, depth, 2, 0, 0, 0)
    body = chunk(b"IDAT", stream[: len(stream) - missing])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


INTACT = {
    "png": encoded("PNG"),
    "palette png": encoded("PNG", Image.fromarray(pixels()).quantize(16)),
    "gray png of 16 bits": encoded("PNG", Image.fromarray(pixels()[..., 0].astype(np.uint16) * 200)),
    "jpeg": encoded("JPEG"),
    "gray jpeg": encoded("JPEG", Image.fromarray(pixels()[..., 0])),
    "progressive jpeg": encoded("JPEG", progressive=True),
    "tiff": encoded("TIFF"),
    "tiff with lzw": encoded("TIFF", compression="tiff_lzw"),
    "tiff with deflate": encoded("TIFF", compression="tiff_adobe_deflate"),
    "webp": encoded("WEBP"),
    "lossless webp": encoded("WEBP", lossless=True),
    "bmp": encoded("BMP"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


def read_error(reader: Any, file: Path) -> str:
    with pytest.raises(CaptureError) as caught:
        reader(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


@pytest.mark.parametrize("kind", INTACT)
def test_a_truncated_file_is_rejected_or_has_all_its_pixels(file: Path, kind: str) -> None:
    content = INTACT[kind]
    file.write_bytes(content)
    check_image(file, (WIDTH, HEIGHT))
    expected = read_image(file)
    for length in {*range(1, len(content), len(content) // 25), *range(len(content) - 8, len(content))}:
        file.write_bytes(content[:length])
        try:
            image = read_image(file)
        except CaptureError:
            read_error(check_image, file)
            read_error(read_mask, file)
        else:
            assert np.array_equal(image, expected), length
            check_image(file)


JPEG = encoded("JPEG", quality=95)
MIDDLE = (JPEG.index(b"\xff\xda") + len(JPEG)) // 2
"""The middle of the data, which follow this marker."""
DAMAGED = {
    "a png with half its rows": (png(HEIGHT // 2), "some of its rows are missing"),
    "a png without its last row": (png(HEIGHT - 1), "some of its rows are missing"),
    "a png with a stream that ends early": (png(missing=200), "broken"),
    "a png without pixels": (png(0, missing=99), "broken"),
    "a png without its IDAT chunk": (png()[:33] + png()[-12:], "broken"),
    "a png without its end": (png()[:-12], "it is truncated"),
    "a png with a wrong checksum": (png()[:-13] + b"?" + png()[-12:], "wrong checksum in its chunk b'IDAT'"),
    "a png that ends in zeros": (png()[:2000] + bytes(len(png()) - 2000), "broken"),
    "a jpeg with half its data and an end": (JPEG[:MIDDLE] + b"\xff\xd9", "end before its last pixel"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", DAMAGED)
def test_missing_pixels_are_rejected_even_if_decoders_fill_them_in(file: Path, name: str, reader: Any) -> None:
    content, message = DAMAGED[name]
    file.write_bytes(content)
    assert message in read_error(reader, file)


@pytest.mark.parametrize("shade", [127, 128, 129])
def test_a_jpeg_that_ends_in_mid_gray_is_accepted(file: Path, shade: int) -> None:
    """A truncated JPEG also ends in mid gray, so a second decoder decides."""
    file.write_bytes(encoded("JPEG", Image.new("RGB", (WIDTH, HEIGHT), (shade, shade, shade))))
    check_image(file)
    assert np.abs(read_image(file).astype(int) - shade).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (5, 5), (8, 8), (17, 31)])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_pngs_of_all_sizes_and_modes_are_read(file: Path, size: tuple[int, int], mode: str) -> None:
    file.write_bytes(encoded("PNG", Image.new(mode, size)))
    check_image(file, size)
    assert read_image(file).shape == (size[1], size[0], 3)


def test_interlaced_pngs_are_read_and_checked(file: Path) -> None:
    passes = ((1, 1), (1, 1), (2, 0), (1, 1), (3, 1), (2, 2), (5, 1))  # columns and rows of each pass, for 5x3 pixels
    rows = b"".join((b"\0" + b"\xc8" * columns) * count for columns, count in passes)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1))
    for data in (rows, rows[:-6]):
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b""))
        if data == rows:
            assert (read_image(file) == 200).all()
        else:
            assert "some of its rows are missing" in read_error(read_image, file)


def test_an_unsupported_format_is_named(file: Path) -> None:
    for start, kind in (
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"8BPS\0\x01" + bytes(20), "PSD"),
        (encoded("GIF"), "GIF"),
        (encoded("PPM"), "Netpbm"),
        (b"\0\0\0\x18ftypheic" + bytes(16), "HEIC"),
        (b"%PDF-1.7\n", "PDF"),
        (encoded("ICO"), "an unknown format"),
    ):
        file.write_bytes(start)
        for reader in (image_size, *READERS):
            expected = f"not a readable image ({kind}, not PNG, JPEG, TIFF, WEBP or BMP); replace it"
            assert read_error(reader, file).startswith(expected)


@pytest.mark.parametrize("size", [(13_000, 13_000), (20_000, 20_000), (2_000_000_000, 2_000_000_000)])
@pytest.mark.parametrize("reader", [image_size, *READERS])
def test_too_many_pixels_are_rejected_by_the_header(file: Path, size: tuple[int, int], reader: Any) -> None:
    file.write_bytes(png(1, size=size))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = read_error(reader, file)
    assert message.startswith(f"the image is too large ({size[0]}x{size[1]}; the limit is 160 million pixels)")


def test_the_largest_sensor_of_a_drone_is_within_the_limit(file: Path) -> None:
    file.write_bytes(png(1, size=(14_204, 10_652)))
    assert image_size(file) == (14_204, 10_652)
    assert MAX_IMAGE_PIXELS > 14_204 * 10_652
    assert Image.MAX_IMAGE_PIXELS is not None  # Pillow's global limit is restored


def test_a_stream_longer_than_its_image_is_not_decompressed(file: Path) -> None:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100_000_000), 1))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b""))
    assert not read_image(file).any()


@pytest.mark.parametrize("reader", [image_size, *READERS])
def test_other_than_regular_files_are_rejected(file: Path, reader: Any) -> None:
    os.mkfifo(file)
    assert read_error(reader, file) == "this image cannot be read (it is not a regular file); check the path"
    file.unlink()
    file.symlink_to("/dev/zero")
    assert "not a regular file" in read_error(reader, file)
    file.unlink()
    file.mkdir()
    assert "it is a folder" in read_error(reader, file)


@pytest.mark.parametrize("reader", [image_size, *READERS])
def test_a_file_over_the_size_limit_is_rejected_without_reading(file: Path, reader: Any) -> None:
    with file.open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        stream.truncate(50 << 30)
    assert read_error(reader, file).startswith("not a readable image (51,200 MiB; the limit is 1,024 MiB)")


def test_pillows_limit_stays_a_number_for_other_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread reads a header, others decode, and Pillow multiplies its limit there."""
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    limits, image_open = [], Image.open
    monkeypatch.setattr(
        Image, "open", lambda *args, **kwargs: limits.append(Image.MAX_IMAGE_PIXELS) or image_open(*args, **kwargs)
    )
    assert image_size(tmp_path / "a.png") == (4, 4)
    assert limits[0] > MAX_IMAGE_PIXELS
