"""Pictures and masks: what is read is what is stored, and what is broken is named."""

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
    found = read_image(tmp_path / "a.png", downscale)
    assert np.abs(found - expected).max() <= 0.5 + 1e-6


def test_sizes_follow_the_cameras_for_every_size_and_factor(tmp_path):
    for downscale in range(1, 9):
        for width, height in ((397, 120), (640, 481), (1, 1), (999, 5)):
            cameras = Cameras.pinhole(torch.eye(3, 4)[None], focal=100.0, width=width, height=height)
            small = cameras.scaled(1 / downscale)
            assert downscaled_size(width, height, downscale) == (small.width.item(), small.height.item())
    write_image(tmp_path / "a.png", noise(121, 397))
    assert read_image(tmp_path / "a.png", 3).shape == (40, 132, 3)


def test_downscale_below_one_is_refused():
    with pytest.raises(CaptureError, match="downscale is 0; give a whole number of at least 1"):
        downscaled_size(10, 10, 0)


def test_gray_pictures_have_three_equal_channels(tmp_path):
    gray = noise(8, 9, 1)[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    found = read_image(tmp_path / "gray.png")
    assert found.shape == (8, 9, 3)
    assert all(np.array_equal(found[..., channel], gray) for channel in range(3))


def test_sixteen_bits_are_reduced_to_eight(tmp_path):
    deep = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_transparency_lies_on_white(tmp_path):
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_exif_orientation_is_not_applied(tmp_path):
    """A phone's orientation tag would turn the picture away from its pose, which refers to stored pixels."""
    picture, exif = Image.fromarray(noise(8, 16)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (8, 16, 3)
    assert image_size(tmp_path / "a.jpg") == (16, 8)


@pytest.mark.parametrize("white", [1, 255])
def test_masks_say_what_is_usable(tmp_path, white):
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 3:] = white
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask > 0)
    small = read_mask(tmp_path / "mask.png", 2)
    assert small.tolist() == [[False, False, True]] * 2


def test_a_pixel_is_usable_where_all_that_it_covers_is(tmp_path):
    mask = np.full((2, 8), 255, np.uint8)
    mask[0, 2], mask[:, 4:6] = 0, 0  # a quarter and all of what two pixels cover
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", 2).tolist() == [[True, False, False, True]]


def test_a_black_mask_leaves_nothing_and_a_white_one_all(tmp_path):
    for value, usable in ((0, False), (255, True)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / "mask.png")
        assert read_mask(tmp_path / "mask.png").all() == usable
        assert read_mask(tmp_path / "mask.png").any() == usable


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(stream, "jpeg")
    return stream.getvalue()


@pytest.mark.parametrize("reader", [read_image, read_mask])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "this picture does not exist; restore it or remove its frame"),
        (b"", "the file is empty (zero size); replace it or remove its frame"),
        (b"GIF? no, text", "not a readable picture (of another format, not PNG, JPEG, TIFF, WEBP or BMP)"),
        (jpeg()[:900], "is broken (image file is truncated"),
    ],
)
def test_broken_pictures_are_named_in_one_line(tmp_path, reader, content, complaint):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        reader(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_size_that_is_not_the_cameras_is_refused_even_when_downscaled(tmp_path):
    write_image(tmp_path / "a.png", noise(10, 21))
    with pytest.raises(CaptureError, match=r"a\.png: the picture is 21x10 but its camera says 20x10"):
        read_image(tmp_path / "a.png", 2, (20, 10))


def test_bytes_and_values_round_trip():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(to_uint8(to_float(values)), values)
    for kind in (np.array, torch.tensor):
        assert to_uint8(kind([1.7, -0.2, 100.4 / 255, 100.6 / 255])).tolist() == [255, 0, 100, 101]


def test_resizing_works_on_values_too():
    ramp = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert resize_area(ramp, 2, 1).tolist() == [[2.5, 4.5]]
    assert resize_area(ramp, 4, 2) is ramp
