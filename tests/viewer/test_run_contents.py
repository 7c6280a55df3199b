"""Contents of a run, and error messages without the server's folders."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from viewer import run_contents as module
from viewer.run_contents import RunContents


@pytest.fixture
def contents(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


def test_a_complete_run_has_no_faults(contents: RunContents) -> None:
    assert (contents.faults, contents.preset_names) == ((), ("dusk", "noon"))
    assert contents.points is not None
    assert 0 < len(contents.points) <= module.MAX_POINTS


def test_points_are_subsampled_on_reading(town_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(town_run.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    write_capture(replace(read_capture(town_run.capture), image_dir=tmp_path, sparse_points="points.ply"), run.capture)
    monkeypatch.setattr(module, "MAX_POINTS", 10)
    for colors in (None, np.arange(75, dtype=np.uint8).reshape(25, 3)):
        positions = np.arange(75, dtype=np.float32).reshape(25, 3)
        write_ply(PointCloud(positions=positions, colors=colors), tmp_path / "points.ply")
        points = RunContents.of(run).points
        assert points is not None
        assert points.positions[:, 0].tolist() == [float(9 * i) for i in range(9)]
        assert points.positions.base is None, "points that are not drawn use memory"
        assert colors is None or (points.colors is not None and len(points.colors) == 9)


def test_redacted_messages_contain_no_folder(contents: RunContents) -> None:
    run, root = contents.run.path, contents.capture.image_dir
    messages = {
        f"{run}/appearance/noon.safetensors: broken; retry": "run/appearance/noon.safetensors: broken; retry",
        f"{root}/images/a b.png: missing": f"{root.name}/images/a b.png: missing",
        "cannot open '/srv/share/some/lib.so' or \"/etc/x/y\"": "cannot open 'lib.so' or \"y\"",
        "viewer-001 failed: /srv/data/x.bin: too large": "viewer-001 failed: x.bin: too large",
        "images/a/b.png, 1/2/3, http://host/a/b, </a></b></c>": "images/a/b.png, 1/2/3, http://host/a/b, </a></b></c>",
    }
    assert {text: contents.redact_paths(RunError(text)) for text in messages} == messages
    assert contents.redact_paths(f"{run}: x") == "run: x"


@pytest.mark.parametrize("path", ["run", "../town/run", "."])
def test_messages_of_a_run_with_a_relative_path_are_redacted(
    contents: RunContents, town_run: RunFolder, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative = replace(contents, run=RunFolder(Path(path)))
    monkeypatch.chdir(town_run.path.parent if path == "run" else town_run.path)
    name = Path(path).name
    prefix = f"{name}/" if name else ""
    assert (
        relative.redact_paths(f"{Path(path) / 'city.json'}: broken. 1.5 of it")
        == f"{prefix}city.json: broken. 1.5 of it"
    )
