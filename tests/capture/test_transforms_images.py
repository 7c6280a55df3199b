"""Images and lenses of a `transforms.json`: how files are found, split lists, and lenses that are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture import read_transforms
from blocknerf.errors import CaptureError
from blocknerf.images import read_image, write_image


def corrupt(folder: Path, path: str, content: bytes) -> Path:
    (folder / path).write_bytes(content)
    return folder


def test_broken_files_are_named(write_transforms):
    with pytest.raises(CaptureError, match=r"transforms\.json: this transforms file is not valid JSON"):
        read_transforms(corrupt(write_transforms(), "transforms.json", b'{"frames": ['))
    with pytest.raises(CaptureError, match=r"images/2\.png: not a readable image"):
        read_transforms(corrupt(write_transforms(), "images/2.png", b"not an image"))
    with pytest.raises(CaptureError, match=r"masks/1\.png: the file is empty \(zero size\)"):
        read_transforms(corrupt(write_transforms(), "masks/1.png", b""))
    folder = write_transforms()
    write_image(folder / "masks" / "1.png", np.zeros((4, 6), np.uint8))
    with pytest.raises(CaptureError, match=r"masks/1\.png: the image is 6x4 but its camera says 12x8"):
        read_transforms(folder)
    with pytest.raises(CaptureError, match=r"transforms\.json: this transforms file does not exist"):
        read_transforms(write_transforms() / "images")


@pytest.mark.parametrize("on_disk", ["IMAGES/0.PNG", "images/0.webp", "images/0.tif"])
@pytest.mark.parametrize("named", ["images/0.png", "images/0", "images\\0.png", "{folder}/images/0.png"])
def test_images_are_found_by_close_names(write_transforms, on_disk, named):
    folder = write_transforms()
    document = json.loads((folder / "transforms.json").read_text())
    document["frames"][0]["file_path"] = named.format(folder=folder)
    (folder / "transforms.json").write_text(json.dumps(document))
    assert read_transforms(folder).frames[0].image == "images/0.png"
    image = read_image(folder / "images" / "0.png")
    (folder / "images" / "0.png").unlink()
    write_image(folder / on_disk, image)
    capture = read_transforms(folder)
    assert capture.frames[0].image == on_disk
    assert any("images have other names on disk" in note for note in capture.notes) or named == "images/0"


def test_missing_images_are_counted(write_transforms):
    folder = write_transforms()
    for name in ("0.png", "2.png"):
        (folder / "images" / name).unlink()
    with pytest.raises(
        CaptureError, match=r"capture: 2 of 3 images do not exist: images/0\.png, images/2\.png; restore"
    ):
        read_transforms(folder)


def test_images_of_another_folder_are_found_by_the_ends_of_their_paths(write_transforms, tmp_path):
    folder = write_transforms()
    (folder / "images").rename(tmp_path / "elsewhere")
    capture = read_transforms(folder, images=tmp_path / "elsewhere")
    assert [frame.image for frame in capture.frames] == ["0.png", "1.png", "2.png"]
    assert capture.image_dir == tmp_path / "elsewhere"
    assert capture.read_mask(1) is not None
    assert capture.read_sparse_points() is not None


FIRST, SECOND, THIRD = (f"images/{i}.png" for i in range(3))


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ({"train_filenames": [FIRST, SECOND], "test_filenames": [f"./{THIRD}"]}, "train train test"),
        ({"test_filenames": [THIRD], "val_filenames": [THIRD, SECOND]}, "train val test"),
        ({"train_filenames": [FIRST], "test_filenames": [THIRD]}, "train val test"),
        ({"train_filenames": [FIRST, SECOND, THIRD], "test_filenames": []}, "None None None"),
    ],
)
def test_lists_fix_the_use_of_images(write_transforms, lists, splits):
    folder = write_transforms(lambda document: document.update(lists))
    assert " ".join(str(frame.split) for frame in read_transforms(folder).frames) == splits


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"camera_model": "EQUIRECTANGULAR"}, "equirectangular images are not supported; cut perspective views"),
        ({"equirectangular": True}, "equirectangular images are not supported"),
        ({"latlong": True}, "equirectangular images are not supported"),
        ({"ftheta_p0": 0.0, "ftheta_p1": 0.001}, "camera model ftheta is not supported; undistort"),
    ],
)
def test_lenses_of_other_kinds_are_refused_by_name(write_transforms, keys, message):
    with pytest.raises(CaptureError, match=message):
        read_transforms(write_transforms(lambda document: document.update(keys)))


def test_a_focal_length_that_contradicts_the_angle_of_view_is_refused(write_transforms):
    folder = write_transforms(lambda document: document.update(fl_x=35.7, fl_y=35.7, w=1920, camera_angle_x=0.86))
    with pytest.raises(CaptureError, match=r"fl_x 35\.7 makes an angle of view of 176 degrees, but"):
        read_transforms(folder)
