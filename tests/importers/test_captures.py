"""Blender scenes: the files of all splits are one capture."""

import json
from pathlib import Path

import pytest

from blocknerf.importers.recognition import load_source
from tests.importers.sources import write_images

POSE = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def write_split(folder: Path, split: str, images: list[str]) -> None:
    write_images(folder, [f"{image}.png" for image in images])
    frames = [{"file_path": f"./{image}", "rotation": 0.1, "transform_matrix": POSE} for image in images]
    (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))


def test_splits_are_one_capture(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_split(tmp_path, split, [f"{split}/r_0", f"{split}/r_1"])
    capture = load_source(tmp_path)
    assert [(frame.image, frame.split) for frame in capture.frames] == [
        (f"{split}/r_{i}.png", split) for split in ("train", "val", "test") for i in range(2)
    ]
    assert capture.notes[0] == "read transforms_train.json, transforms_val.json, transforms_test.json"
    assert len(load_source(tmp_path / "transforms_train.json")) == 2


def test_an_image_for_training_and_testing_is_held_out(tmp_path: Path) -> None:
    write_split(tmp_path, "train", ["train/r_0", "train/r_1", "train/r_2"])
    write_split(tmp_path, "val", ["train/r_0", "train/r_2"])
    write_split(tmp_path, "test", ["train/r_0"])
    capture = load_source(tmp_path)
    assert [(frame.image[6:9], frame.split) for frame in capture.frames] == [
        ("r_0", "test"), ("r_1", "train"), ("r_2", "val")
    ]  # fmt: skip
    assert capture.notes[1] == "2 images are for training and in another split as well; they are held out"


@pytest.mark.parametrize("others", [[], ["train/r_0", "train/r_1"]])
def test_without_other_images_the_split_is_open(tmp_path: Path, others: list[str]) -> None:
    """Some scenes have copies of one file for all splits."""
    write_split(tmp_path, "train", ["train/r_0", "train/r_1"])
    if others:
        write_split(tmp_path, "test", others)
    assert [frame.split for frame in load_source(tmp_path).frames] == [None, None]


def test_real_splits_are_read(real_captures: Path) -> None:
    capture = load_source(real_captures / "lego400")
    splits = [frame.split for frame in capture.frames]
    assert (splits.count("train"), splits.count("test")) == (100, 25)
