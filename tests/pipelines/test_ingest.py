"""The ingest job writes once, skips existing output and never touches other folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blocknerf.capture import read_capture, write_capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images
from blocknerf.errors import CaptureError, RunError
from blocknerf.images import ImageFacts, check_image, write_image
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from pipelines.ingest import ingest


def write_photos(path: Path, *, up: int = 2, frames: int = 3) -> Path:
    """Write a capture of a few gray images; `up` is the world axis that points up in them."""
    rotation = np.roll(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), up - 2, axis=0)
    entries = []
    for i in range(frames):
        write_image(path / f"{i}.png", np.full((4, 6), 128, np.uint8))
        pose = np.column_stack([rotation, [float(i), 0.0, 0.0]])
        entries.append({"file_path": f"{i}.png", "transform_matrix": pose.tolist()})
    (path / "transforms.json").write_text(json.dumps({"fl_x": 5.0, "frames": entries}))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_the_capture_and_prints_a_summary(tmp_path, capsys):
    capture = ingest(write_photos(tmp_path / "photos"), tmp_path / "runs" / "one")
    assert read_capture(tmp_path / "runs" / "one" / "capture.json") == capture
    assert list(contents(tmp_path / "runs")) == ["one/capture.json"]
    assert capsys.readouterr().out == "3 images, 1 camera, 1 segment, 2 units across\n"


def test_a_second_call_writes_nothing(tmp_path, capsys):
    photos, run = write_photos(tmp_path / "photos"), tmp_path / "run"
    first = ingest(photos, run)
    stamp = (run / "capture.json").stat().st_mtime_ns
    capsys.readouterr()
    assert ingest(photos / "transforms.json", run) == first
    assert (run / "capture.json").stat().st_mtime_ns == stamp
    assert capsys.readouterr().out.startswith("skipping: ")


def test_rounding_of_poses_is_ignored_and_other_poses_are_not(tmp_path):
    photos, run = write_photos(tmp_path / "photos"), tmp_path / "run"
    ingest(photos, run)
    path = run / "capture.json"
    document = json.loads(path.read_text())
    pose = document["frames"][1]["camera_to_world"]
    pose[3] = float(np.nextafter(pose[3], 2.0))
    path.write_text(json.dumps(document))
    assert ingest(photos, run) != read_capture(path)
    pose[3] += 1e-6
    path.write_text(json.dumps(document))
    with pytest.raises(RunError, match="contains another run"):
        ingest(photos, run)


def test_a_run_of_another_capture_is_left_alone(tmp_path):
    run = tmp_path / "run"
    ingest(write_photos(tmp_path / "one"), run)
    before = contents(run)
    for other in (write_photos(tmp_path / "two"), write_photos(tmp_path / "one", frames=2)):
        with pytest.raises(RunError, match=r"contains another run, of 3 images, .*; choose another output folder"):
            ingest(other, run)
    assert contents(run) == before


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    photos, run = write_photos(tmp_path / "photos"), tmp_path / "run"
    run.mkdir()
    (run / ".hidden").write_text("does not count")
    (run / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="contains files but no run; choose another output folder"):
        ingest(photos, run)
    (run / "thesis.tex").unlink()
    ingest(photos, run)
    with pytest.raises(RunError, match="is a file, not a folder"):
        ingest(photos, run / "capture.json")


def test_a_bad_capture_leaves_no_folder(tmp_path):
    photos = write_photos(tmp_path / "photos")
    (photos / "1.png").unlink()
    with pytest.raises(CaptureError, match=r"1\.png: this image does not exist"):
        ingest(photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["file_path", "mask_path", "sky_mask_path"])
def test_a_truncated_image_or_mask_is_refused(tmp_path, key):
    photos = write_photos(tmp_path / "photos")
    write_image(photos / "cut.png", np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8))
    (photos / "cut.png").write_bytes((photos / "cut.png").read_bytes()[:-20])
    document = json.loads((photos / "transforms.json").read_text())
    document["frames"][1][key] = "cut.png"
    (photos / "transforms.json").write_text(json.dumps(document))
    with pytest.raises(CaptureError, match=r"cut\.png: the image is broken \(.*\); replace it"):
        ingest(photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_are_decoded_once(tmp_path, monkeypatch):
    photos, run, checked = write_photos(tmp_path / "photos"), tmp_path / "run", []

    def record(path: Path, size: tuple[int, int]) -> ImageFacts:
        checked.append((path.name, size))
        return check_image(path, size)

    monkeypatch.setattr("pipelines.ingest.check_image", record)
    ingest(photos, run)
    assert sorted(checked) == [(f"{i}.png", (6, 4)) for i in range(3)]
    ingest(photos, run)
    assert len(checked) == 3


def test_a_capture_json_is_a_capture_too(tmp_path):
    capture = ingest(write_photos(tmp_path / "photos"), tmp_path / "run")
    assert load_source(tmp_path / "run") == load_source(tmp_path / "run" / "capture.json") == capture
    write_capture(capture, tmp_path / "newer.json")
    newer = (tmp_path / "newer.json").read_text().replace("capture/2", "capture/9")
    (tmp_path / "newer.json").write_text(newer)
    with pytest.raises(CaptureError, match="is newer than"):
        load_source(tmp_path / "newer.json")


def test_other_paths_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text('{"type": "FeatureCollection"}')
    for path, message in (
        (tmp_path / "gone", "gone: does not exist; check the path"),
        (tmp_path / "empty", r"empty: the folder is empty; give a folder of images"),
        (tmp_path / "other.json", r"other\.json: frames is missing; add it"),
    ):
        with pytest.raises(CaptureError, match=message):
            ingest(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("up", "warned"), [(2, False), (1, True), (0, True)])
def test_a_world_that_is_not_z_up_causes_a_warning(tmp_path, capsys, up, warned):
    ingest(write_photos(tmp_path / "photos", up=up), tmp_path / "run")
    assert ("the world was rotated so that +z is up" in capsys.readouterr().out) == warned


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "capture")


def test_a_moved_run_finds_its_images_when_ingested_again(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(capture, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    moved, run = tmp_path / "elsewhere" / "capture", tmp_path / "run"
    capture.rename(moved)
    with pytest.raises(CaptureError, match=r"capture\.json: its images are not in .*; if the run .* was moved, give"):
        capture_with_images(RunFolder(run))
    ingest(moved, run)
    assert f"the run or the capture was moved; now refers to {moved}" in capsys.readouterr().out
    assert capture_with_images(RunFolder(run)).image_dir == moved


def test_the_images_of_a_moved_run_can_be_given(capture: Path, tmp_path: Path) -> None:
    ingest(capture, tmp_path / "run")
    run, before = RunFolder(tmp_path / "run"), (tmp_path / "run" / "capture.json").read_bytes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match="do not exist"):
        capture_with_images(run, tmp_path / "empty")
    assert run.capture.read_bytes() == before
    moved = capture.rename(tmp_path / "moved")
    assert capture_with_images(run, moved / "transforms.json").image_dir == moved
    assert read_capture(run.capture).image_dir == moved


def test_other_images_are_still_another_run(capture: Path, tmp_path: Path) -> None:
    ingest(capture, tmp_path / "run")
    copy = shutil.copytree(capture, tmp_path / "copy")
    with pytest.raises(RunError, match="contains another run"):
        ingest(copy, tmp_path / "run")


def test_all_broken_images_are_counted_at_once(tmp_path):
    photos = write_photos(tmp_path / "photos", frames=6)
    for i in (1, 4):
        (photos / f"{i}.png").write_bytes((photos / f"{i}.png").read_bytes()[:60])
    with pytest.raises(CaptureError, match=r"2 of 6 frames have broken images: .*1\.png.*; .*4\.png.*--keep-going"):
        ingest(photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_keep_going_leaves_broken_images_out_and_resumes(tmp_path, capsys):
    photos = write_photos(tmp_path / "photos", frames=6)
    (photos / "2.png").write_bytes((photos / "3.png").read_bytes()[:60])
    options = ImportOptions(keep_going=True)
    assert len(ingest(photos, tmp_path / "run", source=options)) == 5
    assert "warning: 1 frame left out, first: " in capsys.readouterr().out
    assert len(ingest(photos, tmp_path / "run", source=options)) == 5
    assert capsys.readouterr().out.startswith("skipping: ")


def test_missing_images_are_counted_at_once(tmp_path):
    photos = write_photos(tmp_path / "photos", frames=6)
    text = (photos / "transforms.json").read_text()
    (photos / "transforms.json").write_text(text.replace('"fl_x"', '"w": 6, "h": 4, "fl_x"'))
    for i in (1, 4, 5):
        (photos / f"{i}.png").unlink()
    with pytest.raises(CaptureError, match=r"photos: 3 of 6 images do not exist: 1\.png, 4\.png, 5\.png; restore them"):
        ingest(photos, tmp_path / "run")


def test_twelve_bits_in_images_of_sixteen_are_refused(tmp_path):
    photos = write_photos(tmp_path / "photos")
    for i in range(3):
        Image.fromarray(np.full((4, 6), 4_000 + i, np.uint16)).save(photos / f"{i}.png")
    with pytest.raises(CaptureError, match=r"hold values of 12 bits, at most 4,002; multiply them by 16"):
        ingest(photos, tmp_path / "run")
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(photos / "1.png")
    assert len(ingest(photos, tmp_path / "run")) == 3, "a dark image of a sound capture"


def test_floating_point_images_are_refused(tmp_path):
    photos = write_photos(tmp_path / "photos")
    (photos / "1.png").unlink()
    Image.fromarray(np.full((4, 6), 0.5, np.float32)).save(photos / "1.png", format="TIFF")
    with pytest.raises(CaptureError, match=r"1\.png: the image has floating-point values; convert it to 8 or 16 bits"):
        ingest(photos, tmp_path / "run")


def write_rotated(path: Path, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", size, "gray").save(path, format="JPEG", exif=exif)


def test_an_exif_rotation_is_named_where_sizes_differ_and_warned_of_where_not(tmp_path, capsys):
    photos = write_photos(tmp_path / "photos")
    for i in range(3):
        write_rotated(photos / f"{i}.png", (6, 4))
    ingest(photos, tmp_path / "run")
    assert "warning: 3 images with an EXIF rotation, which is ignored" in capsys.readouterr().out
    write_rotated(photos / "1.png", (4, 6))
    text = (photos / "transforms.json").read_text()
    (photos / "transforms.json").write_text(text.replace('"fl_x"', '"w": 6, "h": 4, "fl_x"'))
    with pytest.raises(CaptureError, match=r"stored as 4x6 and shown as 6x4 by its EXIF orientation 6"):
        ingest(photos, tmp_path / "other")
