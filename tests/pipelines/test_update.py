"""Retraining one block changes only its files and the presets, and a kill always leaves a city that renders."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections, write_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city import overlaps
from blocknerf.city.appearance_presets import load_preset, read_preset
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_capture, write_block_frames
from blocknerf.errors import BlockNerfError, PlacementError, RunError
from blocknerf.fields.checkpoint import fingerprint, load_field
from blocknerf.images import read_image, write_image
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import assign_frames
from pipelines import update as module
from pipelines.cli import main
from pipelines.match import match
from pipelines.train import train
from pipelines.update import update
from tests.tiny import shrink_draft, shrink_overlaps
from tests.tree import tree

STEPS = 6


def make_tiny(patch: pytest.MonkeyPatch) -> None:
    """Make training and matching small enough for a test."""
    shrink_draft(patch.setattr)
    shrink_overlaps(patch.setattr)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny(monkeypatch)


@pytest.fixture(scope="module")
def city_of_balls(tmp_path_factory: pytest.TempPathFactory, balls_capture: Capture) -> RunFolder:
    """Three trained blocks and two presets; tests use copies of it."""
    folder = RunFolder(tmp_path_factory.mktemp("city") / "run")
    blocks = tuple(Block(name=f"b{i:03d}", origin=(8.5 * i, 0.0, 0.0), radius=8.5) for i in range(3))
    folder.path.mkdir()
    write_capture(balls_capture, folder.capture)
    city = City(blocks=blocks, test_every=4)
    write_city(city, folder.city)
    write_block_frames(folder, assign_frames(balls_capture, blocks, test_every=4), balls_capture, city)
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        train(folder.path, steps=STEPS, threads=1)
        match(folder.path, threads=1)
        match(folder.path, appearance="morning", reference="photo00.png", threads=1)
    return folder


@pytest.fixture
def run(city_of_balls: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(city_of_balls.path, tmp_path / "run")
    # Paths to the images are relative, and the copy is in another folder.
    write_capture(read_capture(city_of_balls.capture), tmp_path / "run" / "capture.json")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory, balls_capture: Capture) -> Path:
    """Images with the same names and inverted colors."""
    folder = tmp_path_factory.mktemp("later")
    for frame in balls_capture.frames:
        write_image(folder / frame.image, 255 - read_image(balls_capture.image_dir / frame.image))
    write_capture(replace(balls_capture, image_dir=folder), folder / "capture.json")
    return folder / "capture.json"


def run_update(folder: RunFolder, later: Path, block: str = "b001") -> None:
    update(folder.path, block=block, capture=later, steps=STEPS, threads=1)


def renders(folder: RunFolder) -> bool:
    """Return whether the city renders where all three blocks overlap."""
    camera = read_capture(folder.capture).cameras()[9].scaled(0.2)
    renderer = CityRenderer(folder)
    return bool(renderer.render(camera).color.isfinite().all())


def test_only_the_block_and_the_presets_change(run: RunFolder, later: Path) -> None:
    before = tree(run.path)
    run_update(run, later)
    after = tree(run.path)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    captures = [path for path in changed if path.startswith("blocks/b001/update-")]
    required = {"blocks/b001/field.safetensors", "blocks/b001/frames.json", "blocks/b001/train.json", *captures}
    required |= {"blocks/b001/frames.table", "appearance/default.safetensors", "appearance/morning.safetensors"}
    # The log of so few steps is empty, and the occupancy grid may be unchanged.
    assert required <= changed <= required | {"blocks/b001/log.jsonl", "blocks/b001/occupancy.safetensors"}
    assert len(captures) == 1
    assert renders(run)


def test_the_block_is_trained_on_the_new_images_only(run: RunFolder, later: Path) -> None:
    run_update(run, later)
    capture = block_capture(run, "b001")
    assert capture.image_dir == later.parent
    names = load_field(run.field("b001")).spec.frames
    assert names == tuple(capture.column("name"))
    assert all(name.startswith("b001-update/") for name in names)
    assert block_capture(run, "b000").image_dir != later.parent


def test_only_the_codes_of_the_block_are_matched(run: RunFolder, later: Path) -> None:
    before = {name: read_preset(run.appearance_preset(name)) for name in run.preset_names()}
    assert before.keys() == {"default", "morning"}
    run_update(run, later)
    for name, old in before.items():
        preset = load_preset(run, name, read_city(run.city).digest)
        assert preset.field_fingerprints["b001"] == fingerprint(run.field("b001")) != old.field_fingerprints["b001"]
        assert not torch.equal(preset.codes["b001"], old.codes["b001"])
        assert not torch.equal(preset.codes["b001"], load_field(run.field("b001")).mean_appearance_code())
        for other in ("b000", "b002"):
            assert torch.equal(preset.codes[other], old.codes[other])
            assert preset.field_fingerprints[other] == old.field_fingerprints[other]
        assert (old.reference_block == "b001") <= (preset.reference_block != "b001"), (
            "the images of the preset no longer train its reference block"
        )


def test_pose_corrections_of_the_old_images_are_removed(run: RunFolder, later: Path) -> None:
    correction = PoseCorrection(
        pose_segment=PoseSegment(segment="drive"), frames=3, motion=PivotTransform(pivot=(0.0, 0.0, 0.0))
    )
    for name in ("b000", "b001"):
        write_corrections(PoseCorrections(corrections=(correction,)), run.pose_corrections(name))
    run_update(run, later)
    assert run.pose_corrections("b000").is_file()
    assert not run.pose_corrections("b001").exists()
    assert renders(run)


def test_the_same_update_is_skipped_and_another_one_is_not(
    run: RunFolder, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_update(run, later)
    before = tree(run.path)
    capsys.readouterr()
    run_update(run, later)
    assert capsys.readouterr().out.startswith("skipping: ")
    assert tree(run.path) == before
    fewer = read_capture(later).select(range(4, 14))
    write_capture(fewer, tmp_path / "fewer.json")
    run_update(run, tmp_path / "fewer.json")
    assert len(list(run.block_folder("b001").glob("update-*.json"))) == 1
    assert len(block_capture(run, "b001")) <= 10
    assert renders(run)


def test_an_updated_block_can_be_trained_again(run: RunFolder, later: Path) -> None:
    run_update(run, later)
    first = fingerprint(run.field("b001"))
    run.field("b001").unlink()
    assert train(run.path, block="b001", steps=STEPS, threads=1) == ["b001"]
    assert fingerprint(run.field("b001")) == first


def test_the_old_block_stays_until_the_new_one_is_finished(
    run: RunFolder, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(run.path)
    for stage in ("train", "_match"):
        with monkeypatch.context() as patch:
            patch.setattr(module, stage, interrupt)
            with pytest.raises(KeyboardInterrupt):
                run_update(run, later)
        kept = {path: digest for path, digest in tree(run.path).items() if not path.startswith("updates/")}
        assert kept == before
    run_update(run, later)
    assert not (run.path / "updates").exists()
    assert tree(run.path) != before


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_update_starts_atomically(run: RunFolder, later: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its city.json marks that it has started, so a kill must not leave a partial one."""
    marker, original = run.update_run("b001").city, Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target == marker:
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(module, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_update(run, later)
    assert not marker.exists()


def test_a_kill_at_any_file_change_leaves_a_city_that_renders(
    run: RunFolder, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the process before each change of a file: the city renders, and the same command finishes the update."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "_publish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_update(run, later)
    changes, finished = 0, None
    while finished is None:
        copy = RunFolder(tmp_path / f"copy{changes}")
        shutil.copytree(run.path, copy.path)
        with monkeypatch.context() as patch:
            left = die_after(changes, patch)
            try:
                run_update(copy, later)
                finished = tree(copy.path)
            except KeyboardInterrupt:
                changes += 1
        assert left is not None
        assert renders(copy)
        run_update(copy, later)
        assert renders(copy)
        assert not (copy.path / "updates").exists()
        load_preset(copy, "morning", read_city(copy.city).digest)
        if finished is None:
            shutil.rmtree(copy.path)
    assert changes > 10


def die_after(changes: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt after this many file changes; return the number left, as a list of one."""
    left = [changes]
    for name in ("replace", "unlink", "rename"):
        original = getattr(Path, name)

        def counted(self: Path, *paths: Any, original: Any = original, **options: Any) -> Any:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return original(self, *paths, **options)

        patch.setattr(Path, name, counted)
    return left


def test_a_block_without_overlap_keeps_its_own_codes(
    run: RunFolder, later: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overlaps, "MIN_SHARED_VISIBILITY", 1.0)
    run_update(run, later)
    assert "block b001 shares no view with others" in capsys.readouterr().out
    assert torch.equal(
        read_preset(run.appearance_preset("default")).codes["b001"],
        load_field(run.field("b001")).mean_appearance_code(),
    )


def test_few_images_cause_a_warning(run: RunFolder, later: Path, tmp_path: Path, capsys: Any) -> None:
    write_capture(read_capture(later).select(range(6, 10)), tmp_path / "few.json")
    run_update(run, tmp_path / "few.json")
    assert "warning: the parts of block b001 that they do not show will be lost" in capsys.readouterr().out


def test_bad_options_are_refused_and_change_nothing(run: RunFolder, later: Path, tmp_path: Path) -> None:
    capture = read_capture(later)
    elsewhere = [replace(frame, camera_to_world=shift_pose(frame.camera_to_world)) for frame in capture.frames]
    write_capture(replace(capture, frames=tuple(elsewhere)), tmp_path / "elsewhere.json")
    write_capture(replace(capture, is_metric=False), tmp_path / "other_unit.json")
    write_capture(replace(read_capture(run.capture), geo_origin=(52.0, 13.0, 30.0)), run.capture)
    write_capture(replace(capture, geo_origin=(52.0, 13.1, 30.0)), tmp_path / "other_place.json")
    before = tree(run.path)
    cases: list[tuple[str, Path, type[BlockNerfError], str]] = [
        ("b009", later, RunError, "no block 'b009'"),
        ("b001", tmp_path / "elsewhere.json", PlacementError, "no training frames"),
        (
            "b001",
            tmp_path / "other_unit.json",
            RunError,
            "the run is in meters, but .* convert both to one world frame",
        ),
        ("b001", tmp_path / "other_place.json", RunError, "another geo_origin than the run; convert both to one world"),
        ("b001", tmp_path / "nowhere.json", BlockNerfError, "does not exist"),
    ]
    for block, new, kind, message in cases:
        with pytest.raises(kind, match=message):
            run_update(run, new, block)
    assert tree(run.path) == before
    run.field("b002").unlink()
    with pytest.raises(RunError, match="block b002 is not trained; run 'blocknerf train --block b002'"):
        run_update(run, later, "b002")


def shift_pose(pose: Any) -> Any:
    return tuple((*row[:3], row[3] + 500.0) for row in pose)


def test_new_images_need_exposures_if_the_run_has_them(run: RunFolder, later: Path) -> None:
    known = read_capture(run.capture)
    write_capture(replace(known, frames=tuple(replace(f, exposure=1.0) for f in known.frames)), run.capture)
    with pytest.raises(RunError, match=r"image photo00\.png has no exposure, but the run's images do; add it"):
        run_update(run, later)


def test_two_updates_of_a_block_are_not_mixed(
    run: RunFolder, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_update(run, later)
    write_capture(read_capture(later).select(range(4, 14)), tmp_path / "other.json")
    assert main(["update", str(run.path), "--block", "b001", "--capture", str(tmp_path / "other.json")]) == 2
    error = capsys.readouterr().err
    assert "an update from another capture is unfinished; finish it, or remove the folder" in error
    assert error.count("\n") == 1
