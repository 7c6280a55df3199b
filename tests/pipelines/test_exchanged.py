"""Files of another block, folders and pipes in place of files: refused with the file name, never ignored."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from blocknerf.city.appearance_track import default_preset
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_capture, capture_with_refined_poses
from blocknerf.errors import BlockNerfError, RunError
from pipelines.report import report
from pipelines.training_log import read_log


def test_the_frames_of_another_block_are_refused(exact_run: RunFolder) -> None:
    shutil.copy(exact_run.frames("b001"), exact_run.frames("b000"))
    with pytest.raises(RunError, match=r"b000/frames\.json: block is 'b001', another block; restore the file"):
        block_capture(exact_run, "b000")


def test_the_log_of_a_block_may_be_missing(exact_run: RunFolder) -> None:
    assert read_log(exact_run.log("b000"), digest="of one that was removed") == ()


READERS: dict[str, tuple[Callable[[RunFolder], Path], Callable[[RunFolder], object]]] = {
    "poses": (lambda run: run.poses, capture_with_refined_poses),
    "log": (lambda run: run.log("b000"), lambda run: report(run.path)),
    "city": (lambda run: run.city, lambda run: read_city(run.city)),
    "frames": (
        lambda run: run.frames("b000"),
        lambda run: block_capture(run, "b000"),
    ),
}


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("name", READERS)
def test_folders_and_pipes_in_place_of_files_are_refused(exact_run: RunFolder, name: str, kind: str) -> None:
    get_path, read = READERS[name]
    path = get_path(exact_run)
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(BlockNerfError, match=path.name):
        read(exact_run)


def test_a_default_preset_that_is_a_folder_is_not_ignored(exact_run: RunFolder) -> None:
    assert default_preset(exact_run, None) is None
    exact_run.appearance_preset("default").mkdir(parents=True)
    assert default_preset(exact_run, None) == "default"
