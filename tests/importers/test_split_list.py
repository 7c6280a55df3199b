"""A list of test images fixes the use of each image."""

from pathlib import Path

import pytest

from blocknerf.errors import CaptureError
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from tests.importers.sources import write_colmap, write_images


@pytest.fixture
def project(tmp_path: Path) -> Path:
    names = ["a/0.png", "a/1.png", "b/0.png"]
    write_images(tmp_path / "images", names)
    write_colmap(tmp_path / "sparse", names)
    return tmp_path


@pytest.mark.parametrize("line", ["a/1.png", "./a/1.png", "1.png", "1", "a\\1", "# first\n\na/1.png"])
def test_listed_images_are_for_testing_and_others_train(project: Path, line: str) -> None:
    (project / "test.txt").write_text(f"\ufeff{line}\n", encoding="utf-8")
    capture = load_source(project, ImportOptions(test_list=project / "test.txt"), project / "work")
    assert [frame.split for frame in capture.frames] == ["train", "test", "train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a/7.png\nb/9.png\n", r"a/7\.png is no image of the capture \(2 of 2 names are not\)"),
        (b"0.png", r"0\.png is the name of several images"),
        (b"", "lists no image"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_wrong_lists_are_refused(project: Path, text: bytes, message: str) -> None:
    (project / "test.txt").write_bytes(text)
    with pytest.raises(CaptureError, match=rf"test\.txt: .*{message}"):
        load_source(project, ImportOptions(test_list=project / "test.txt"), project / "work")


def test_a_missing_list_is_refused(project: Path) -> None:
    with pytest.raises(CaptureError, match=r"gone\.txt: this list of test images does not exist; check --test-list"):
        load_source(project, ImportOptions(test_list=project / "gone.txt"), project / "work")
