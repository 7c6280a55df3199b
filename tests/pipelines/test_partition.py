"""The partition job: its files, skipping and errors."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from blocknerf.cameras import look_at
from blocknerf.capture import Capture, Frame, Intrinsics, read_capture, write_capture
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import CaptureError, PlacementError, RunError
from blocknerf.partitioning.frame_assignment import read_assignment
from pipelines.partition import partition
from tests.tree import tree


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with the capture of a straight street of 80 m."""
    intrinsics = Intrinsics(width=40, height=30, fx=25.0, fy=25.0, cx=20.0, cy=15.0)
    eyes = torch.tensor([[float(x), 0.0, 2.0] for x in range(80)], dtype=torch.float64)
    poses = look_at(eyes, eyes + torch.tensor([1.0, 0.0, 0.0]).double()).tolist()
    frames = tuple(
        Frame(
            name=f"{i}.png",
            image=f"{i}.png",
            intrinsics=intrinsics,
            camera_to_world=tuple(tuple(row) for row in pose),
            segment="drive",
            camera="front",
        )
        for i, pose in enumerate(poses)
    )
    folder = tmp_path / "run"
    folder.mkdir()
    write_capture(Capture(image_dir=tmp_path, frames=frames, is_metric=True, source="test"), RunFolder(folder).capture)
    return folder


def test_it_writes_every_file_of_the_partition(run: Path) -> None:
    city = partition(run, preset="standard", test_every=5)
    folder = RunFolder(run)
    assert read_city(folder.city) == city
    assert (city.preset, city.test_every, len(city.blocks)) == ("standard", 5, 4)
    members = [read_assignment(folder.frames(block.name)) for block in city.blocks]
    assert {i for member in members for i in member.frames + member.test_frames} == set(range(80))
    assert all(city.is_test_frame(i) for member in members for i in member.test_frames)
    assert json.loads(folder.coverage.read_text())["frames"] == 80
    with Image.open(folder.map) as image:
        assert image.size == (1200, 900)


def test_the_same_options_change_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    city = partition(run, radius=30.0)
    before = tree(run)
    assert partition(run, radius=30.0) == city
    assert tree(run) == before
    assert "skipping: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "other", [{"radius": 31.0}, {"placement": "grid"}, {"test_every": 4}, {"preset": "fine"}, {"blocks": "file"}]
)
def test_other_options_are_refused(run: Path, other: dict) -> None:
    partition(run, radius=30.0)
    before = tree(run)
    if "blocks" in other:
        other = {"blocks": run.parent / "blocks.json"}
        other["blocks"].write_text("[]")
    with pytest.raises(RunError, match="was partitioned with") as caught:
        partition(run, **{"radius": 30.0, **other})
    assert "\n" not in str(caught.value)
    assert tree(run) == before


def test_partition_is_deterministic(run: Path) -> None:
    partition(run)
    first = tree(run)
    RunFolder(run).city.unlink()
    partition(run)
    assert tree(run) == first


def test_files_of_an_interrupted_partition_are_removed(run: Path) -> None:
    partition(run, radius=12.0)
    RunFolder(run).city.unlink()
    city = partition(run, radius=40.0)
    assert sorted(path.name for path in RunFolder(run).blocks.iterdir()) == [block.name for block in city.blocks]


def test_blocks_from_a_file(run: Path) -> None:
    file = run.parent / "blocks.json"
    file.write_text(json.dumps([{"name": "west", "origin": [20, 0], "radius": 30}, {"origin": [60, 0], "radius": 25}]))
    assert [block.name for block in partition(run, blocks=file).blocks] == ["west", "b001"]


@pytest.fixture
def on_map(run: Path) -> tuple[Path, Path]:
    """The run with a geographic origin, and a map of its street with two intersections."""
    capture = read_capture(RunFolder(run).capture)
    write_capture(replace(capture, geo_origin=(0.0, 0.0, 0.0)), RunFolder(run).capture)
    path = run.parent / "town.osm"
    path.write_text(TOWN)
    return run, path


TOWN = """<osm>
<node id="1" lat="0" lon="-0.00002"/><node id="2" lat="0" lon="0.00018"/>
<node id="3" lat="0" lon="0.00054"/><node id="4" lat="0" lon="0.00074"/>
<node id="5" lat="0.0004" lon="0.00018"/><node id="6" lat="-0.0003" lon="0.00054"/>
<node id="7" lat="0.003" lon="0.00018"/>
<way id="1"><nd ref="1"/><nd ref="2"/><nd ref="3"/><nd ref="4"/><tag k="highway" v="residential"/></way>
<way id="2"><nd ref="7"/><nd ref="5"/><nd ref="2"/><tag k="highway" v="residential"/></way>
<way id="3"><nd ref="3"/><nd ref="6"/><tag k="highway" v="residential"/></way>
</osm>"""


def test_blocks_at_the_intersections_of_a_map(on_map: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, town = on_map
    city = partition(run, osm=town)
    assert [round(block.origin[0]) for block in city.blocks] == [20, 60]
    document = json.loads(RunFolder(run).coverage.read_text())
    # 300 m of street lead north, away from all frames.
    assert document["dropped_blocks"] >= 3
    assert f"{document['dropped_blocks']} more blocks of the street map" in capsys.readouterr().out
    before = tree(run)
    assert partition(run, osm=town) == city
    assert tree(run) == before


def test_another_map_or_none_is_refused(on_map: tuple[Path, Path]) -> None:
    run, town = on_map
    partition(run, osm=town)
    town.write_text(TOWN + "\n")
    for osm in (town, None):
        with pytest.raises(RunError, match="was partitioned with osm"):
            partition(run, osm=osm)


@pytest.mark.parametrize("option", ["osm", "blocks"])
def test_a_missing_file_is_refused(run: Path, option: str) -> None:
    partition(run)
    before = tree(run)
    with pytest.raises(PlacementError, match=r"absent\.osm: this file does not exist"):
        partition(run, **{option: run.parent / "absent.osm"})
    assert tree(run) == before


@pytest.mark.parametrize("option", ["placement", "blocks"])
def test_a_map_cannot_be_combined_with_another_placement(on_map: tuple[Path, Path], option: str) -> None:
    run, town = on_map
    other = {"placement": "grid"} if option == "placement" else {"blocks": run.parent / "blocks.json"}
    (run.parent / "blocks.json").write_text("[]")
    with pytest.raises(PlacementError, match="--osm cannot be combined with --placement or --blocks"):
        partition(run, osm=town, **other)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([{"origin": [0, 0], "radius": 30}], "frames 34.png"),
        ([{"origin": [40, 0], "radius": 60}, {"origin": [900, 0], "radius": 9}], "block b001"),
        ([], "lists no blocks"),
    ],
)
def test_bad_blocks_write_nothing(run: Path, blocks: list, message: str) -> None:
    file = run.parent / "blocks.json"
    file.write_text(json.dumps(blocks))
    before = tree(run)
    with pytest.raises(PlacementError, match=message):
        partition(run, blocks=file)
    assert tree(run) == before


def test_a_run_without_a_capture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"capture\.json"):
        partition(tmp_path)


def test_a_missing_coverage_file_is_named(run: Path) -> None:
    partition(run)
    RunFolder(run).coverage.unlink()
    with pytest.raises(RunError, match=r"coverage\.json"):
        partition(run)


@pytest.mark.parametrize("option", ["blocks", "osm"])
def test_a_pipe_in_place_of_a_file_is_refused(run: Path, tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PlacementError, match=r"pipe: this file cannot be read \(it is not a regular file\)"):
        partition(run, **{option: tmp_path / "pipe"})
    assert not RunFolder(run).city.exists()
