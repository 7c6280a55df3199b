"""What a run offers to look at, and what a visitor is told of the server's folders: nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture.capture import read_capture, write_capture
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from viewer import run_contents as module
from viewer.run_contents import RunContents


@pytest.fixture
def stock(town_run: RunFolder) -> RunContents:
    return RunContents.of(town_run)


def test_a_whole_run_has_no_faults(stock: RunContents) -> None:
    assert (stock.faults, stock.preset_names) == ((), ("dusk", "noon"))
    assert stock.points is not None
    assert 0 < len(stock.points) <= module.POINTS


def test_points_are_thinned_once_for_all(town_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(town_run.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    write_capture(replace(read_capture(town_run.capture), image_dir=tmp_path, sparse_points="points.ply"), run.capture)
    monkeypatch.setattr(module, "POINTS", 10)
    for colors in (None, np.arange(75, dtype=np.uint8).reshape(25, 3)):
        positions = np.arange(75, dtype=np.float32).reshape(25, 3)
        write_ply(PointCloud(positions=positions, colors=colors), tmp_path / "points.ply")
        points = RunContents.of(run).points
        assert points is not None
        assert points.positions[:, 0].tolist() == [float(9 * i) for i in range(9)]
        assert points.positions.base is None, "what is not drawn is not held"
        assert colors is None or (points.colors is not None and len(points.colors) == 9)


def test_no_folder_of_the_server_is_told(stock: RunContents) -> None:
    run, root = stock.run.path, stock.capture.image_dir
    told = {
        f"{run}/appearance/noon.safetensors: broken; match it again": "run/looks/noon.safetensors: broken; match it again",
        f"{root}/images/a b.png: missing": f"{root.name}/images/a b.png: missing",
        "cannot open '/srv/share/some/lib.so' or \"/etc/x/y\"": "cannot open 'lib.so' or \"y\"",
        "viewer-001 failed: /srv/data/x.bin: too large": "viewer-001 failed: x.bin: too large",
        "images/a/b.png, 1/2/3, http://host/a/b, </a></b></c>": "images/a/b.png, 1/2/3, http://host/a/b, </a></b></c>",
    }
    assert {text: stock.redact_paths(RunError(text)) for text in told} == told
    assert stock.redact_paths(f"{run}: x") == "run: x"


@pytest.mark.parametrize("place", ["run", "../town/run", "."])
def test_a_run_named_by_a_relative_path_tells_as_little(
    stock: RunContents, town_run: RunFolder, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relative = replace(stock, run=RunFolder(Path(place)))
    monkeypatch.chdir(town_run.path.parent if place == "run" else town_run.path)
    name = Path(place).name
    start = f"{name}/" if name else ""
    assert (
        relative.redact_paths(f"{Path(place) / 'city.json'}: broken. 1.5 of it")
        == f"{start}city.json: broken. 1.5 of it"
    )
