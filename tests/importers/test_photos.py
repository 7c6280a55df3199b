"""Folders of photos and videos are recognized, and read with poses by structure from motion."""

from pathlib import Path

import numpy as np
import pytest

from blocknerf.errors import CaptureError
from blocknerf.images import write_image
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import IMPORTERS, load_source


def kind(path: Path) -> str | None:
    return next((importer.kind for importer in IMPORTERS if importer.recognizes(path)), None)


@pytest.mark.parametrize("name", ["a.jpg", "drive/a.JPEG", "images/a.png"])
def test_photos_are_recognized(name: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    path = tmp_path / "photos" / name
    path.parent.mkdir(parents=True)
    (tmp_path / "a.png").rename(path)
    assert kind(tmp_path / "photos") == "a folder of photos"


@pytest.mark.parametrize("name", ["a.txt", "scan/transforms.json", "masks/a.png", "scan/images/a.png"])
def test_other_folders_are_not_photos(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert kind(tmp_path) is None


def test_a_video_is_recognized_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.MOV").write_bytes(b"\0")
    assert kind(tmp_path / "a.MOV") == "a video"


def test_options_reach_the_computation(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "photos" / name, np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "photos" / "b.png").write_bytes(b"")
    with pytest.raises(CaptureError, match=r"1 of 3 images cannot be read: b\.png"):
        load_source(tmp_path / "photos", ImportOptions(), tmp_path / "work")
    with pytest.raises(CaptureError, match="2 usable images, but poses need at least 3"):
        load_source(tmp_path / "photos", ImportOptions(keep_going=True), tmp_path / "work")
    assert not (tmp_path / "work").exists()
