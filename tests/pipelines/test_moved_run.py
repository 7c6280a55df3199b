"""A run that was moved away from its images: jobs that read them report it, and accept their new folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_capture, write_block_frames
from blocknerf.errors import CaptureError
from blocknerf.partitioning.frame_assignment import read_assignment
from pipelines.evaluate import evaluate
from pipelines.export import export
from pipelines.train import train
from viewer.view import view

JOBS: dict[str, Callable[..., Any]] = {
    "train": lambda run, capture: train(run, block="b000", steps=2, threads=1, capture=capture),
    "evaluate": lambda run, capture: evaluate(run, max_frames=1, threads=1, capture=capture),
    "export": lambda run, capture: export(run, poses=run.parent / "poses.json", capture=capture),
    "view": lambda run, capture: view(run, threads=1, capture=capture),
}


@pytest.fixture
def moved(exact_run: RunFolder, balls_capture: Capture, tmp_path: Path) -> RunFolder:
    """A run that refers to missing images."""
    gone, city = replace(balls_capture, image_dir=tmp_path / "gone"), read_city(exact_run.city)
    write_capture(gone, exact_run.capture)
    assignments = [read_assignment(exact_run.frames(block.name)) for block in city.blocks]
    write_block_frames(exact_run, assignments, gone, city)
    return exact_run


@pytest.mark.parametrize("name", ["train", "evaluate", "export"])
def test_a_job_that_reads_images_reports_missing_images(name: str, moved: RunFolder) -> None:
    moved.field("b000").unlink()
    with pytest.raises(CaptureError, match=r"(json|table): its images are not in .*gone; .* with --capture"):
        JOBS[name](moved.path, None)


@pytest.mark.parametrize("name", JOBS)
def test_the_new_folder_is_recorded_before_the_work(
    name: str, moved: RunFolder, balls_capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved.field("b000").unlink()

    def stop(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    for stage in ("train.BlockTraining", "evaluate._evaluate", "export.capture_with_refined_poses"):
        monkeypatch.setattr(f"pipelines.{stage}", stop)
    monkeypatch.setattr("viewer.view.serve", stop)
    monkeypatch.setattr("pipelines.train._compile_kernels", lambda processes: None)
    with pytest.raises(ZeroDivisionError):
        JOBS[name](moved.path, balls_capture.image_dir)
    assert read_capture(moved.capture).image_dir == balls_capture.image_dir
    assert block_capture(moved, "b001").image_dir == balls_capture.image_dir


def test_what_is_done_needs_no_images(moved: RunFolder) -> None:
    assert train(moved.path, threads=1) == []


def test_a_place_without_the_images_is_refused_and_not_noted(moved: RunFolder, tmp_path: Path) -> None:
    before = moved.capture.read_bytes()
    (tmp_path / "empty").mkdir()
    moved.field("b000").unlink()
    with pytest.raises(CaptureError, match="18 of 18 images do not exist"):
        train(moved.path, threads=1, capture=tmp_path / "empty")
    assert moved.capture.read_bytes() == before
