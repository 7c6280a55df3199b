"""Samples on disk: correct poses, points, masks and map; the committed sample is reproduced."""

import json
from dataclasses import replace
from math import radians
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from blocknerf.capture.transforms import read_transforms
from blocknerf.geo import geodetic_to_enu
from blocknerf.images import read_image
from blocknerf.town.osm_writer import GEO_ORIGIN, osm_xml
from blocknerf.town.raycaster import closest_surface
from blocknerf.town.sample import (
    TRUE_TRANSFORMS,
    command,
    encoders,
    read_spec,
    readme,
    write_sample,
    write_view,
)
from blocknerf.town.streets import STREETS
from blocknerf.town.town import Town
from blocknerf.town.views import SampleSpec, plan_views, render_view

SMALL = SampleSpec(width=48, height=27, positions=3, translation_noise=0.4, rotation_noise=1.0)


@pytest.fixture(scope="module")
def small(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small")
    assert len(list(write_sample(town, out, SMALL))) == 27
    return out


@pytest.fixture(scope="module")
def mini_city(repository: Path) -> Path:
    return repository / "data_samples" / "mini_city"


def test_the_sample_reads_as_a_capture(small: Path) -> None:
    capture = read_transforms(small)
    assert capture.is_metric
    assert [len(indices) for indices in capture.segments.values()] == [9, 9, 9]
    assert {frame.camera for frame in capture.frames} == {"left", "forward", "right"}
    assert all(frame.exposure is not None and frame.gps is not None for frame in capture.frames)
    assert capture.read_image(0).shape == (27, 48, 3)
    usable = np.array([capture.read_mask(i).mean() for i in range(len(capture))])  # type: ignore[union-attr]
    assert usable.max() == 1.0
    assert 0.3 < usable.min() < 1.0


def test_each_segment_is_displaced_rigidly_and_true_poses_are_written(small: Path) -> None:
    noisy, true = (
        torch.tensor([frame.camera_to_world for frame in read_transforms(small / name).frames]).double()
        for name in ("transforms.json", TRUE_TRANSFORMS)
    )
    views = plan_views(SMALL)
    assert torch.allclose(true, torch.tensor([view.pose for view in views]).double(), atol=1e-7)
    translations = []
    for drive in range(3):
        part = slice(9 * drive, 9 * drive + 9)
        rotations = noisy[part, :, :3] @ true[part, :, :3].transpose(1, 2)
        assert torch.allclose(rotations, rotations[:1].expand_as(rotations), atol=1e-6)
        angle = torch.acos(((rotations[0].trace() - 1) / 2).clamp(-1, 1))
        assert angle.item() == pytest.approx(radians(1.0), rel=1e-3)
        translation = (noisy[part, :, 3] - true[part, :, 3]).mean(0)
        assert translation.norm().item() == pytest.approx(0.4, rel=1e-3)
        translations.append(translation)
    assert not torch.allclose(translations[0], translations[1], atol=0.05)


def test_points_are_on_surfaces(town: Town, small: Path) -> None:
    cloud = read_transforms(small).read_sparse_points()
    assert cloud is not None
    assert len(cloud) > 100
    gaps, solids = np.empty(len(cloud)), np.empty(len(cloud), np.int64)
    closest_surface(town.scene, cloud.positions.astype(np.float64), gaps, solids)
    assert np.abs(gaps).max() < 1e-4


def test_images_match_renderings_from_the_written_poses(town: Town, small: Path) -> None:
    view = plan_views(SMALL)[4]
    stored = read_image(small / "images" / f"{view.name}.jpg").astype(float) / 255
    rendering = render_view(town, view, SMALL).color.numpy()
    assert np.abs(stored - rendering).mean() < 0.04


def test_the_osm_extract_matches_the_streets() -> None:
    root = ElementTree.fromstring(osm_xml())
    nodes = {node.get("id"): (float(node.get("lat", "")), float(node.get("lon", ""))) for node in root.iter("node")}
    ways = [[nd.get("ref") for nd in way.iter("nd")] for way in root.iter("way")]
    assert len(ways) == len(STREETS)
    uses = [ref for way in ways for ref in way]
    assert sum(uses.count(ref) > 1 for ref in set(uses)) == 2
    first = STREETS[0].points[0]
    latitude, longitude = nodes[ways[0][0]]
    assert geodetic_to_enu(longitude, latitude, GEO_ORIGIN) == pytest.approx(first, abs=1e-3)


def test_gps_matches_the_poses(mini_city: Path) -> None:
    capture = read_transforms(mini_city)
    assert capture.geo_origin is not None
    for frame in capture.frames:
        latitude, longitude, altitude = frame.gps or (0.0, 0.0, 0.0)
        position = (*geodetic_to_enu(longitude, latitude, capture.geo_origin), altitude - capture.geo_origin[2])
        assert position == pytest.approx([row[3] for row in frame.camera_to_world], abs=1e-3)


def test_the_command_lists_non_default_options() -> None:
    assert command(SampleSpec(), "OUT") == "blocknerf sample OUT"
    assert (
        command(replace(SampleSpec(), positions=5, route="tour"), "OUT")
        == "blocknerf sample OUT --positions 5 --route tour"
    )


def test_other_folders_are_not_samples(tmp_path: Path) -> None:
    assert read_spec(tmp_path) is None
    (tmp_path / "transforms.json").write_text(json.dumps({"source": "elsewhere", "frames": []}))
    assert read_spec(tmp_path) is None


def test_the_committed_sample_is_small_and_matches_its_readme(mini_city: Path) -> None:
    assert sum(file.stat().st_size for file in mini_city.rglob("*") if file.is_file()) < 3_000_000
    assert read_spec(mini_city) == SampleSpec()
    assert (mini_city / "README.md").read_text() == readme(SampleSpec())
    assert "    blocknerf sample data_samples/mini_city\n" in readme(SampleSpec())
    assert (mini_city / "streets.osm").read_text() == osm_xml()
    names = {file.stem for file in (mini_city / "images").iterdir()}
    views = plan_views(SampleSpec())
    assert names == {view.name for view in views}


def test_the_committed_sample_is_reproduced(town: Town, mini_city: Path, tmp_path: Path) -> None:
    spec, views = SampleSpec(), plan_views(SampleSpec())
    # One image per camera and time of day: 1 s instead of 1 min for all.
    selected = [views[i] for i in (0, 139, 341)]
    written = {entry["file_path"]: entry for entry in json.loads((mini_city / "transforms.json").read_text())["frames"]}
    for view in selected:
        pose = np.array(view.pose) * np.array([1.0, -1.0, -1.0, 1.0])
        np.testing.assert_array_equal(written[f"images/{view.name}.jpg"]["transform_matrix"][:3], pose.tolist())
    for view in selected:
        buffers = write_view(town, tmp_path, view, spec)
        assert buffers.mask == written[f"images/{view.name}.jpg"]["mask_path"]
        compare_files(mini_city, tmp_path, f"images/{view.name}.jpg")
        compare_files(mini_city, tmp_path, buffers.mask)


def compare_files(committed: Path, written: Path, name: str) -> None:
    same_encoders = json.loads((committed / "transforms.json").read_text())["written_with"] == encoders()
    if same_encoders:
        assert (committed / name).read_bytes() == (written / name).read_bytes(), name
    else:
        # Other encoders write other bytes; decoded pixels may differ by rounding.
        first, second = (read_image(folder / name).astype(int) for folder in (committed, written))
        assert np.abs(first - second).mean() < 2.0, name
