"""The photos of a folder, and everything that is wrong with them in one message."""

from pathlib import Path

import numpy as np
import pytest

from blocknerf.errors import CaptureError
from blocknerf.images import write_image
from blocknerf.sfm.exif import PhotoRecord
from blocknerf.sfm.image_folder import Photo, image_paths, in_order, read_photos


def fill(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        write_image(folder / name, np.full((12, 16, 3), 10 * i, np.uint8))
    return folder


def test_images_of_subfolders_count_where_the_folder_has_none(tmp_path: Path) -> None:
    fill(tmp_path, "b/1.jpg", "a/1.png", "masks/1.png", ".hidden/1.png")
    assert image_paths(tmp_path) == ["a/1.png", "b/1.jpg"]
    fill(tmp_path, "z.JPG", ".x.jpg")
    assert image_paths(tmp_path) == ["z.JPG"]


def test_all_broken_images_are_named_or_left_out(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{i}.png" for i in range(9)))
    for i in range(1, 8):
        path = tmp_path / f"{i}.png"
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CaptureError, match=r"7 of 9 images cannot be read: 1\.png, .*5\.png and 2 more \(the first: "):
        read_photos(tmp_path, keep_going=False)
    photos, broken = read_photos(tmp_path, keep_going=True)
    assert [photo.path for photo in photos] == ["0.png", "8.png"]
    assert len(broken) == 7
    assert "3.png: " in broken[2]
    for i in (0, 8):
        (tmp_path / f"{i}.png").write_bytes(b"")
    with pytest.raises(CaptureError, match="none of its 9 images can be read"):
        read_photos(tmp_path, keep_going=True)


@pytest.mark.parametrize(
    ("name", "reason"), [("a.txt", "holds no images; give a folder"), ("a.HEIC", r"1 \.heic photos, .* convert them")]
)
def test_a_folder_without_images(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(CaptureError, match=reason):
        read_photos(tmp_path, keep_going=True)


def test_photos_are_in_the_order_of_time_where_it_is_known() -> None:
    def photo(path: str, time: float | None) -> Photo:
        return Photo(path=path, record=PhotoRecord(width=1, height=1, timestamp=time))

    photos = [photo("b/1", 9.0), photo("b/2", 3.0), photo("a/1", 5.0), photo("a/2", None)]
    assert [item.path for item in in_order(photos)] == ["a/1", "a/2", "b/2", "b/1"]
