"""Recognition: what a path is, what is inside, the user's own importers, and the next step for everything else."""

import json
from pathlib import Path

import pytest

from blocknerf.errors import CaptureError
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from tests.importers.sources import write_colmap, write_images

SPLAT_CAMERAS = json.dumps([{"id": 0, "img_name": "a", "rotation": [[1, 0, 0]], "fx": 1.0}])
FILES = {
    "a.zip": (b"PK\x03\x04", "is an archive; unpack it"),
    "photos": (b"PK\x03\x04", "is an archive; unpack it"),
    "a.7z": (b"7z\xbc\xaf", "is an archive"),
    "a.tar.gz": (b"\x1f\x8b", "is an archive"),
    "a.r3d": (b"PK\x03\x04", "a Record3D recording; unpack it"),
    "a.csv": (b"#name,x,y,alt,heading,pitch,roll\n", "RealityCapture's CSV.*export the registration as a COLMAP model"),
    "b.csv": (b"image,x,y\n", "is a table.*--importer module:function"),
    "cameras.json": (SPLAT_CAMERAS.encode(), "cameras of a Gaussian splat training"),
    "a.ply": (b"ply\nproperty float f_dc_0\n", "is a trained Gaussian splat"),
    "b.ply": (b"ply\nproperty float x\n", "is a point cloud or mesh"),
    "a.las": (b"LASF", "is a point cloud"),
    "a.jpg": (b"\xff\xd8\xff", "is a single image; give the folder"),
    "a.pdf": (b"%PDF-1.7", "is a PDF document; give a folder of images"),
    "a.psx": (b"<document/>", "is a Metashape project; export its cameras"),
    "a.xml": (b"<blocks/>", "is XML, but not Metashape's cameras"),
    "database.db": (b"SQLite format 3\0", "database of COLMAP without a model"),
    "a.unknown": (b"???", "is not a kind of file that is supported; give a folder of images"),
    "empty": (b"", "is empty or cannot be read"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_read_is_named_with_the_next_step(name: str, tmp_path: Path) -> None:
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CaptureError, match=rf"{name}: .*{message}"):
        load_source(tmp_path / name)


FOLDERS = {
    "empty": ([], "the folder is empty; give"),
    "archives": (["a.zip"], "a.zip is an archive; unpack it"),
    "splat": (["cfg_args", "cameras.json"], "the folder of a trained Gaussian splat"),
    "other": (["a.xyzzy", "b.xyzzy"], r"holds nothing that is supported \(a.xyzzy, b.xyzzy\)"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_not_read_is_named_with_the_next_step(name: str, tmp_path: Path) -> None:
    files, message = FOLDERS[name]
    (tmp_path / name).mkdir()
    for file in files:
        (tmp_path / name / file).write_bytes(b"x")
    with pytest.raises(CaptureError, match=rf"{name}: .*{message}"):
        load_source(tmp_path / name)


def test_the_only_source_among_subfolders_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / "scan" / "images")
    write_colmap(tmp_path / "scan" / "sparse" / "0")
    (tmp_path / "notes").mkdir()
    for _ in range(2):
        capture = load_source(tmp_path, work=tmp_path / "work")
        assert capture.notes == ("found a COLMAP model: scan",)
        write_images(tmp_path, ["preview.png"])
    write_colmap(tmp_path / "scan_2" / "sparse" / "0")
    with pytest.raises(CaptureError, match=r"holds 2 sources \(scan, scan_2\); give one"):
        load_source(tmp_path, work=tmp_path / "work")


OWN_IMPORTER = """
import blocknerf
from blocknerf.capture.frame import pose_from_flat

POSE = pose_from_flat([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0])

def read(path):
    lens = blocknerf.Intrinsics(width=24, height=16, fx=20.0, fy=20.0, cx=12.0, cy=8.0)
    frame = blocknerf.Frame(name="a", image="0.png", intrinsics=lens, camera_to_world=POSE, segment="s", camera="c")
    return blocknerf.Capture(image_dir=path, frames=(frame,), is_metric=True, source="mine")

def fails(path):
    raise KeyError("pose")

def nothing(path):
    return None
"""


@pytest.fixture
def own_importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images with a module of importers in the current folder."""
    write_images(tmp_path / "images")
    (tmp_path / "own_importers.py").write_text(OWN_IMPORTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


def test_an_importer_of_the_user_is_found_in_the_current_folder(own_importer: Path) -> None:
    capture = load_source(own_importer, ImportOptions(importer="own_importers:read"))
    assert (capture.source, len(capture)) == ("mine", 1)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("own_importers", "is not module:function"),
        ("no_such_module:read", "importing no_such_module: there is no module no_such_module here; run the command in"),
        ("own_importers:other", "own_importers has no function other"),
        ("own_importers:fails", r"raised KeyError \('pose'\) in own_importers.py line 13; correct the function"),
        ("own_importers:nothing", "returned NoneType, not a blocknerf.Capture"),
    ],
)
def test_a_wrong_importer_of_the_user_is_one_line(own_importer: Path, reference: str, message: str) -> None:
    with pytest.raises(CaptureError, match=f"--importer {reference}: ?.*{message}|--importer {reference} {message}"):
        load_source(own_importer, ImportOptions(importer=reference))
