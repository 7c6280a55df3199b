"""Photos become a capture, with a stub for COLMAP: resumption, refusals and what is recorded."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import check_files
from blocknerf.errors import CaptureError
from blocknerf.geo import enu_to_geodetic
from blocknerf.images import write_image
from blocknerf.sfm.exif import PhotoRecord
from blocknerf.sfm.image_folder import Photo
from blocknerf.sfm.job import read_job
from blocknerf.sfm.model import write_model
from blocknerf.sfm.options import SfmOptions
from blocknerf.sfm.poses import estimate_poses
from blocknerf.sfm.result import Source, segment_names
from blocknerf.sfm.work_folder import WorkFolder
from tests.sfm.scenes import SCALE, model_of, points_to_model, street, to_model
from tests.tree import tree

COUNT = 12
ORIGIN = 55.7, 13.2, 40.0
WORLD = street(COUNT)
Stub = Callable[..., list[str]]


def folder_of(path: Path) -> Path:
    for i in range(COUNT):
        write_image(path / f"{i:02d}.png", np.full((30, 40, 3), 9 * i, np.uint8))
    return path


def photos(*, gps: bool, seconds: float = 2.0) -> list[Photo]:
    result = []
    for i, (x, y, z) in enumerate(WORLD[:, :, 3].tolist()):
        latitude, longitude = enu_to_geodetic(x, y, ORIGIN)
        record = PhotoRecord(
            width=40,
            height=30,
            camera="Phone",
            focal=70.0,
            exposure=0.5,
            timestamp=seconds * i,
            gps=(latitude, longitude, ORIGIN[2] + z) if gps else None,
        )
        result.append(Photo(path=f"{i:02d}.png", record=record))
    return result


class Colmap:
    """Registers the first `count` images exactly, and counts the stages it runs."""

    def __init__(self, count: int, sizes: tuple[int, ...] | None = None) -> None:
        self.count, self.sizes, self.stages = count, sizes or (count,), list[str]()

    def run(self, stage: str, title: str, work: WorkFolder, threads: int, limit: float | None = None) -> list[str]:
        self.stages.append(stage)
        if stage == "features":
            work.database.write_bytes(b"features")
        elif stage != "matches":
            names = tuple(image.name for image in read_job(work.job).images)[: self.count]
            model = model_of(to_model(WORLD[: self.count]), names, points_to_model(np.full((5, 3), 2.0)))
            write_model(replace(model, sizes=self.sizes), work.model(stage))
        return []


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Colmap], Colmap]:
    def use(colmap: Colmap) -> Colmap:
        for module in ("poses", "attempts"):
            monkeypatch.setattr(f"blocknerf.sfm.{module}.run_stage", colmap.run)
        monkeypatch.setattr("blocknerf.sfm.poses.check_installed", lambda: None)
        return colmap

    return use


def test_photos_with_gps_give_a_metric_capture(tmp_path: Path, install: Callable[[Colmap], Colmap]) -> None:
    colmap, folder = install(Colmap(COUNT)), folder_of(tmp_path / "my photos")
    capture = estimate_poses(
        Source(name=folder, image_dir=folder), photos(gps=True), tmp_path / "work", SfmOptions(), 1
    )
    assert colmap.stages == ["features", "matches", "incremental-0"]
    check_files(capture)
    assert capture.is_metric
    assert capture.geo_origin == pytest.approx((55.7, 13.2, 41.6), abs=0.01)
    found = np.array([frame.camera_to_world for frame in capture.frames])
    shift = found[0, :, 3] - WORLD[0, :, 3]
    assert np.abs(found[:, :, 3] - WORLD[:, :, 3] - shift).max() < 0.01
    assert np.abs(found[:, :, :3] - WORLD[:, :, :3]).max() < 1e-3
    frame = capture.frames[3]
    assert (frame.image, frame.exposure, frame.timestamp, frame.segment) == ("03.png", 0.5, 6.0, "photos")
    assert (frame.camera, frame.intrinsics.fx, frame.intrinsics.model) == ("Phone 40x30", 50.0, CameraModel.OPENCV)
    assert frame.gps == pytest.approx(photos(gps=True)[3].record.gps)
    points = capture.read_sparse_points()
    assert points is not None
    assert np.abs(points.positions - (2.0 + shift)).max() < 0.01
    assert any(re.search(r"aligned to GPS: 0\.0 m rms;", note) for note in capture.notes)
    assert any("50 px (EXIF: 70 px)" in note for note in capture.notes)


def test_photos_without_gps_give_an_upright_world(tmp_path: Path, install: Callable[[Colmap], Colmap]) -> None:
    install(Colmap(COUNT))
    folder = folder_of(tmp_path / "photos")
    capture = estimate_poses(Source(name=folder, image_dir=folder), photos(gps=False), tmp_path / "work", SfmOptions())
    assert not capture.is_metric
    assert capture.geo_origin is None
    heights = [frame.center[2] for frame in capture.frames]
    assert np.ptp(heights) < 0.01 * SCALE * 150.0
    assert any("no usable GPS" in note for note in capture.notes)


def test_an_interrupted_computation_resumes_and_a_finished_one_is_read(
    tmp_path: Path, install: Callable[[Colmap], Colmap], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, work = folder_of(tmp_path / "photos"), tmp_path / "work"
    source = Source(name=folder, image_dir=folder)

    def interrupted(stage: str, *_: object) -> list[str]:
        if stage == "matches":
            raise KeyboardInterrupt
        return colmap.run(stage, "", WorkFolder(work / "sfm"), 1)

    colmap = install(Colmap(COUNT))
    monkeypatch.setattr("blocknerf.sfm.poses.run_stage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimate_poses(source, photos(gps=True), work, SfmOptions())
    assert not (work / "capture.json").exists()
    resumed = install(Colmap(COUNT))
    capture = estimate_poses(source, photos(gps=True), work, SfmOptions())
    assert resumed.stages == ["matches", "incremental-0"]
    assert sorted(path.name for path in work.rglob("*")) == ["capture.json", "job.json", "points.ply", "sfm"]
    finished = install(Colmap(COUNT))
    assert estimate_poses(source, photos(gps=True), work, SfmOptions()) == capture
    assert finished.stages == []


@pytest.mark.parametrize("change", ["image", "option"])
def test_other_images_or_options_start_over(change: str, tmp_path: Path, install: Callable[[Colmap], Colmap]) -> None:
    folder, work = folder_of(tmp_path / "photos"), tmp_path / "work"
    source, options = Source(name=folder, image_dir=folder), SfmOptions()
    install(Colmap(3))
    with pytest.raises(CaptureError, match="could be registered"):
        estimate_poses(source, photos(gps=True), work, options)
    if change == "image":
        write_image(folder / "03.png", np.full((30, 40, 3), 255, np.uint8))
    else:
        options = SfmOptions(features=500)
    colmap = install(Colmap(COUNT))
    estimate_poses(source, photos(gps=True), work, options)
    assert colmap.stages == ["features", "matches", "incremental-0"]


def test_a_result_is_not_replaced_by_that_of_other_options(tmp_path: Path, install: Callable[[Colmap], Colmap]) -> None:
    folder, work = folder_of(tmp_path / "photos"), tmp_path / "work"
    source = Source(name=folder, image_dir=folder)
    install(Colmap(COUNT))
    estimate_poses(source, photos(gps=True), work, SfmOptions())
    before = tree(work)
    with pytest.raises(CaptureError, match=r"capture\.json: holds poses of other images or options; choose another"):
        estimate_poses(source, photos(gps=True), work, SfmOptions(features=500))
    assert tree(work) == before


def test_images_left_out_are_listed(tmp_path: Path, install: Callable[[Colmap], Colmap]) -> None:
    install(Colmap(9, sizes=(9, 3)))
    folder, work = folder_of(tmp_path / "photos"), tmp_path / "work"
    source = Source(name=folder, image_dir=folder, left_out=("x.jpg: broken",))
    capture = estimate_poses(source, photos(gps=True), work, SfmOptions())
    assert len(capture) == 9
    assert (work / "left_out.txt").read_text().splitlines() == [
        "x.jpg: broken",
        *(f"{i:02d}.png: not registered" for i in (9, 10, 11)),
    ]
    assert any("images left out: 4, listed in left_out.txt" in note for note in capture.notes)
    assert any("separate models of 9, 3 images" in note for note in capture.notes)


@pytest.mark.parametrize(
    ("count", "sizes", "message"),
    [
        (5, (5, 4), r"only 5 of 12 images could be registered and the others form models of 4; the least is 60%; take"),
        (5, (5,), "only 5 of 12 images could be registered; the least is 60%; .* or lower --min-registered$"),
    ],
)
def test_too_few_registered_images_are_refused(
    count: int, sizes: tuple[int, ...], message: str, tmp_path: Path, install: Callable[[Colmap], Colmap]
) -> None:
    install(Colmap(count, sizes))
    folder, work = folder_of(tmp_path / "photos"), tmp_path / "work"
    source = Source(name=folder, image_dir=folder)
    with pytest.raises(CaptureError, match=message):
        estimate_poses(source, photos(gps=True), work, SfmOptions())
    assert not (work / "capture.json").exists()
    # The same images with a lower limit need no further computation.
    lower = install(Colmap(count, sizes))
    assert len(estimate_poses(source, photos(gps=True), work, SfmOptions(min_registered=0.4))) == 5
    assert lower.stages == []


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_are_refused(count: int, tmp_path: Path) -> None:
    source = Source(name=tmp_path, image_dir=tmp_path)
    with pytest.raises(CaptureError, match=rf"{count} usable images?, but poses need at least 3 that overlap"):
        estimate_poses(source, photos(gps=True)[:count], tmp_path / "work", SfmOptions())
    assert not (tmp_path / "work").exists()


def test_a_pause_begins_a_new_segment() -> None:
    images = photos(gps=False, seconds=1000.0)
    assert set(segment_names(images, "photos")) == {"photos"}
    late = [replace(photo, record=replace(photo.record, timestamp=1e6)) for photo in images[6:]]
    assert segment_names([*images[:6], *late], "photos") == ["photos_1"] * 6 + ["photos_2"] * 6
