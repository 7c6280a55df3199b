"""Images and masks: round trips, resizing, and errors."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from blocknerf.cameras import Cameras
from blocknerf.errors import CaptureError
from blocknerf.images import (
    downscaled_size,
    image_size,
    read_image,
    read_mask,
    resize_area,
    to_float,
    to_uint8,
    write_image,
)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_png_round_trip_is_exact_and_reproducible(tmp_path):
    image = noise(12, 17)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, image)
    assert np.array_equal(read_image(tmp_path / "a.png"), image)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert image_size(tmp_path / "a.png") == (17, 12)


def test_jpeg_round_trip_is_close(tmp_path):
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 3, (32, 64, 3))
    write_image(tmp_path / "a.jpg", np.ascontiguousarray(ramp))
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - ramp).mean() < 1.5


def test_jpeg_keeps_the_colors_of_single_pixels(tmp_path):
    columns = np.zeros((16, 16, 3), np.uint8)
    columns[:, ::2, 0], columns[:, 1::2, 2] = 255, 255
    write_image(tmp_path / "a.jpg", columns)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - columns).max() < 40


@pytest.mark.parametrize("downscale", [1, 2, 4])
def test_downscaling_averages_areas(tmp_path, downscale):
    image = noise(16, 24)
    write_image(tmp_path / "a.png", image)
    expected = image.reshape(16 // downscale, downscale, 24 // downscale, downscale, 3).astype(float).mean((1, 3))
    result = read_image(tmp_path / "a.png", downscale)
    assert np.abs(result - expected).max() <= 0.5 + 1e-6


def test_sizes_match_scaled_cameras(tmp_path):
    for downscale in range(1, 9):
        for width, height in ((397, 120), (640, 481), (1, 1), (999, 5)):
            cameras = Cameras.pinhole(torch.eye(3, 4)[None], focal=100.0, width=width, height=height)
            small = cameras.scaled(1 / downscale)
            assert downscaled_size(width, height, downscale) == (small.width.item(), small.height.item())
    write_image(tmp_path / "a.png", noise(121, 397))
    assert read_image(tmp_path / "a.png", 3).shape == (40, 132, 3)


def test_downscale_below_one_is_rejected():
    with pytest.raises(CaptureError, match="downscale is 0; give a whole number of at least 1"):
        downscaled_size(10, 10, 0)


def test_gray_images_have_three_equal_channels(tmp_path):
    gray = noise(8, 9, 1)[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    image = read_image(tmp_path / "gray.png")
    assert image.shape == (8, 9, 3)
    assert all(np.array_equal(image[..., channel], gray) for channel in range(3))


def test_sixteen_bits_are_reduced_to_eight(tmp_path):
    deep = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_transparent_images_have_a_white_background(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_exif_orientation_is_not_applied(tmp_path):
    """The orientation tag of a phone would rotate the image, but its pose refers to stored pixels."""
    image, exif = Image.fromarray(noise(8, 16)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (8, 16, 3)
    assert image_size(tmp_path / "a.jpg") == (16, 8)


@pytest.mark.parametrize("white", [1, 255])
def test_masks_of_0_1_and_0_255_are_read(tmp_path, white):
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 3:] = white
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask > 0)
    small = read_mask(tmp_path / "mask.png", 2)
    assert small.tolist() == [[False, False, True]] * 2


def test_a_downscaled_pixel_is_valid_only_if_fully_covered(tmp_path):
    mask = np.full((2, 8), 255, np.uint8)
    mask[0, 2], mask[:, 4:6] = 0, 0  # a quarter of one downscaled pixel, and all of another
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", 2).tolist() == [[True, False, False, True]]


def test_a_black_mask_is_all_false_and_a_white_mask_all_true(tmp_path):
    for value, valid in ((0, False), (255, True)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / "mask.png")
        assert read_mask(tmp_path / "mask.png").all() == valid
        assert read_mask(tmp_path / "mask.png").any() == valid


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(stream, "jpeg")
    return stream.getvalue()


@pytest.mark.parametrize("reader", [read_image, read_mask])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "this image does not exist; restore it or remove its frame"),
        (b"", "the file is empty (zero size); replace it or remove its frame"),
        (b"GIF? no, text", "not a readable image (an unknown format, not PNG, JPEG, TIFF, WEBP or BMP)"),
        (jpeg()[:900], "is broken (image file is truncated"),
    ],
)
def test_broken_images_are_one_line_errors(tmp_path, reader, content, message):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        reader(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_size_that_differs_from_the_camera_is_rejected_even_if_downscaled(tmp_path):
    write_image(tmp_path / "a.png", noise(10, 21))
    with pytest.raises(CaptureError, match=r"a\.png: the image is 21x10 but its camera says 20x10"):
        read_image(tmp_path / "a.png", 2, (20, 10))


def test_bytes_and_values_round_trip():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(to_uint8(to_float(values)), values)
    for make in (np.array, torch.tensor):
        assert to_uint8(make([1.7, -0.2, 100.4 / 255, 100.6 / 255])).tolist() == [255, 0, 100, 101]


def test_resizing_works_on_floats():
    ramp = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert resize_area(ramp, 2, 1).tolist() == [[2.5, 4.5]]
    assert resize_area(ramp, 4, 2) is ramp
