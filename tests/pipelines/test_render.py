"""Videos show the city, resume frame by frame, and are never mixed."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import pytest
import torch

from blocknerf.cameras import look_at
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.manifest import WEIGHTINGS, Weighting, read_city, rendering_settings
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import BlockNerfError, CaptureError, RunError
from blocknerf.images import read_image, to_uint8
from blocknerf.trajectory.trajectory_file import read_trajectory, write_camera_path
from pipelines.render import render
from pipelines.video_defaults import PIXELS, default_path, resample_path, video_size, video_timing
from tests.pipelines.conftest import SMALL


def test_a_video_shows_the_city_along_the_capture(exact_run: RunFolder) -> None:
    video = render(exact_run.path, **SMALL)
    assert video == exact_run.path / "renders" / "flythrough" / "video.mp4"
    path = read_trajectory(exact_run.trajectory("flythrough"))
    assert (len(path), path.width, path.height, path.fps) == (6, 20, 12, 24.0)
    assert path.length == pytest.approx(17.0, abs=1e-3)
    renderer = CityRenderer(exact_run)
    for i in (0, 3, 5):
        frame = read_image(exact_run.frames_dir("flythrough") / f"{i:05d}.png")
        assert (frame == to_uint8(renderer.render(path.cameras, i).color)).all()
    assert imageio.v3.imread(video, plugin="pyav").shape == (6, 12, 20, 3)


def test_the_record_has_the_blocks_of_each_frame(rendered_run: RunFolder) -> None:
    record = json.loads(rendered_run.render_summary("flythrough").read_text())
    assert [row["frame"] for row in record["frames"]] == list(range(6))
    assert all(sum(row["blocks"].values()) == pytest.approx(1.0, abs=1e-4) for row in record["frames"])
    assert max(record["frames"][0]["blocks"], key=record["frames"][0]["blocks"].get) == "b000"
    assert max(record["frames"][5]["blocks"], key=record["frames"][5]["blocks"].get) == "b002"
    assert len(record["frame_differences"]) == 5
    assert record["max_temporal_jump"] < 2.0
    assert record["pixels_per_second"] > 0
    assert not rendered_run.render_log("flythrough").exists()


def test_a_finished_video_is_not_rendered_again(rendered_run: RunFolder, count_renderings: list[int]) -> None:
    before = rendered_run.video("flythrough").read_bytes()
    count_renderings.clear()
    render(rendered_run.path, **SMALL)
    assert count_renderings == []
    assert rendered_run.video("flythrough").read_bytes() == before


def test_an_interrupted_video_resumes(
    exact_run: RunFolder, count_renderings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import video_job as module

    original = module.write_image

    def failing(path: Path, image: np.ndarray) -> None:
        if path.name == "00003.png":
            raise KeyboardInterrupt
        original(path, image)

    monkeypatch.setattr(module, "write_image", failing)
    with pytest.raises(KeyboardInterrupt):
        render(exact_run.path, **SMALL)
    assert not exact_run.video("flythrough").exists()
    with exact_run.render_log("flythrough").open("a") as log:
        log.write('{"frame": 3, "seco')  # A killed process leaves a partial line.
    monkeypatch.setattr(module, "write_image", original)
    count_renderings.clear()
    render(exact_run.path, **SMALL)
    assert count_renderings == [3, 4, 5]
    record = json.loads(exact_run.render_summary("flythrough").read_text())
    assert [row["frame"] for row in record["frames"]] == list(range(6))


def test_another_video_with_the_same_name_is_refused(rendered_run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"another camera path with this name; choose another --name"):
        render(rendered_run.path, frames=7, width=20, threads=1)
    for options, difference in (
        ({"block": "b001"}, 'block null, not "b001"'),
        ({"power": 2.0}, "power 4.0, not 2.0"),
        ({"hide": ("b001",)}, r'hide \[\], not \["b001"\]'),
        ({"weighting": "nearest"}, 'weighting "inverse_distance_2d", not "nearest"'),
    ):
        with pytest.raises(RunError, match=f"flythrough: contains a video with {difference}; choose another --name"):
            render(rendered_run.path, **SMALL, **options)
    assert render(rendered_run.path, name="second", frames=2, width=20, threads=1).exists()


def test_depth_and_block_weights_can_be_added_later(rendered_run: RunFolder) -> None:
    render(rendered_run.path, **SMALL, save_depth=True, save_block_weights=True)
    for layer in ("depth", "blocks"):
        assert rendered_run.video("flythrough", layer).exists()
        assert len(list(rendered_run.frames_dir("flythrough", layer).glob("*.png"))) == 6
    depth = read_image(rendered_run.frames_dir("flythrough", "depth") / "00002.png").reshape(-1, 3)
    assert len(np.unique(depth, axis=0)) > 20


def test_one_block_can_be_rendered_alone(exact_run: RunFolder) -> None:
    render(exact_run.path, **SMALL, block="b001", name="alone")
    record = json.loads(exact_run.render_summary("alone").read_text())
    assert all(row["blocks"] == {"b001": 1.0} for row in record["frames"])
    with pytest.raises(RunError, match="no block 'b009'"):
        render(exact_run.path, **SMALL, block="b009", name="none")


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_weighting_is_applied(weighting: Weighting, exact_run: RunFolder) -> None:
    render(exact_run.path, **SMALL, weighting=weighting)
    record = json.loads(exact_run.render_summary("flythrough").read_text())
    assert record["settings"]["weighting"] == weighting
    counts = {len(row["blocks"]) for row in record["frames"]}
    assert (counts == {1}) == (weighting == "nearest")
    assert all(sum(row["blocks"].values()) == pytest.approx(1.0, abs=1e-4) for row in record["frames"])


def test_a_nerfstudio_path_is_followed(exact_run: RunFolder, tmp_path: Path) -> None:
    path = default_path(read_capture(exact_run.capture), "draft", (16, 10), (), None, 3, None, 8.0)
    write_camera_path(path, tmp_path / "path.json")
    render(exact_run.path, trajectory=tmp_path / "path.json", name="given", threads=1)
    back = read_trajectory(exact_run.trajectory("given"))
    assert torch.allclose(back.camera_to_world, path.camera_to_world, atol=1e-6)
    assert (back.width, back.height, back.fps) == (16, 10, 8.0)
    with pytest.raises(RunError, match="--frames cannot be combined with --trajectory"):
        render(exact_run.path, trajectory=tmp_path / "path.json", name="again", frames=4, threads=1)
    render(exact_run.path, trajectory=tmp_path / "path.json", name="wide", width=8, fps=4.0, threads=1)
    assert read_trajectory(exact_run.trajectory("wide")).height == 5


def test_keyframes_are_passed_through(exact_run: RunFolder) -> None:
    names = ("photo00.png", "photo05.png", "photo10.png")
    render(exact_run.path, keyframes=names, name="keys", frames=5, width=10, threads=1)
    path = read_trajectory(exact_run.trajectory("keys"))
    cameras = read_capture(exact_run.capture).cameras()
    assert torch.allclose(path.camera_to_world[[0, 2, 4]], cameras.camera_to_world[[0, 5, 10]], atol=1e-4)
    with pytest.raises(CaptureError, match="no frame is named 'other'"):
        render(exact_run.path, keyframes=("photo00.png", "other"), name="none", threads=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10**9}, r"--width 1000000000 is out of range; give a whole number from 1 to 8192"),
        (
            {"width": 8192, "height": 8192},
            "its size is 8192x8192; use .* at most 8192 pixels per side and 35651584 in total",
        ),
        ({"height": 8000}, "its size is 13333x8000; use"),
        ({"frames": 10**9}, "--frames 1000000000 is out of range; give a whole number from 1 to 100000"),
        ({"seconds": 1e6}, "it has 24000000 frames; use 1 to 100000"),
        ({"seconds": math.inf}, "--seconds inf is out of range"),
        ({"seconds": math.nan}, "--seconds nan is out of range"),
        ({"fps": 1e300}, r"--fps 1e\+300 is out of range"),
        ({"seconds": 1000.0, "fps": 1000.0}, "it has 1000000 frames; use"),
    ],
)
def test_videos_that_cannot_be_encoded_are_refused(
    exact_run: RunFolder, count_renderings: list[int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BlockNerfError, match=message) as caught:
        render(exact_run.path, threads=1, **options)
    assert "\n" not in str(caught.value)
    assert count_renderings == []
    assert not exact_run.renders.exists()


def test_a_camera_path_with_too_large_frames_is_refused(exact_run: RunFolder, tmp_path: Path) -> None:
    path = default_path(read_capture(exact_run.capture), "draft", (16, 10), (), None, 3, None, 8.0)
    write_camera_path(path, tmp_path / "path.json")
    path = json.loads((tmp_path / "path.json").read_text())
    (tmp_path / "path.json").write_text(json.dumps(path | {"render_width": 20_000, "render_height": 20_000}))
    with pytest.raises(RunError, match=r"path\.json: render_(width|height) is 20000, not a number <= 8192"):
        render(exact_run.path, trajectory=tmp_path / "path.json", threads=1)
    assert not exact_run.renders.exists()


@pytest.mark.parametrize("side", ["width", "height"])
def test_no_side_is_less_than_one_pixel(exact_run: RunFolder, balls_capture: Capture, side: str) -> None:
    sizes: dict[str, Any] = {"width": None, "height": None, side: 1}
    width, height = video_size(balls_capture, exact_run, None, **sizes)
    assert min(width, height) == 1
    path = default_path(balls_capture, "draft", (16, 10), (), None, 3, None, 8.0)
    assert resample_path(replace(path, width=80, focals=path.focals), None, **sizes).height >= 1


@pytest.mark.parametrize(
    ("size", "downscale", "expected"),
    [
        ((192, 108), 1, (480, 270)),
        ((1024, 768), 2, (512, 384)),
        ((1600, 1200), 1, (640, 480)),
        ((192, 108), 6, (80, 45)),
    ],
)
def test_default_size_of_a_video(
    size: tuple[int, int],
    downscale: int,
    expected: tuple[int, int],
    exact_run: RunFolder,
    balls_capture: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.video_defaults.training_downscale", lambda _: downscale)
    lens = replace(balls_capture.frames[0].intrinsics, width=size[0], height=size[1])
    frames = tuple(replace(frame, intrinsics=lens) for frame in balls_capture.frames)
    assert video_size(replace(balls_capture, frames=frames), exact_run, None, None, None) == expected


@pytest.mark.parametrize("name", ["", "../escape", "a b", ".hidden"])
def test_odd_names_are_refused(name: str, exact_run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"^--name .* choose another$"):
        render(exact_run.path, name=name, **SMALL)
    assert not exact_run.renders.exists()


@pytest.mark.parametrize("shuffled", [True, False])
def test_only_images_around_an_object_without_an_order_get_an_orbit(shuffled: bool, balls_capture: Capture) -> None:
    angles = torch.linspace(0.0, 5.5, 24)
    eyes = torch.stack([4.0 * angles.cos(), 4.0 * angles.sin(), torch.full_like(angles, 2.0)], -1)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0)) if shuffled else torch.arange(24)
    poses = look_at(eyes, torch.zeros(24, 3))[order].double().tolist()
    frame = balls_capture.frames[0]
    frames = [
        replace(frame, name=f"{i}", image=f"{i}", timestamp=None, camera_to_world=tuple(map(tuple, pose)))
        for i, pose in enumerate(poses)
    ]
    path = default_path(replace(balls_capture, frames=tuple(frames)), "draft", (16, 10), (), None, 12, None, None)
    heights = path.camera_to_world[:, 2, 3]
    closes = float((path.camera_to_world[0, :, 3] - path.camera_to_world[-1, :, 3]).norm()) < 2.5
    assert torch.allclose(heights, torch.full((12,), 2.0), atol=0.1)
    assert closes == shuffled


def test_defaults_come_from_the_capture(balls_capture: Capture) -> None:
    path = default_path(balls_capture, "draft", (40, 24), (), None, None, None, None)
    assert (len(path), path.fps) == (96, 24.0)  # 17 m take less than the minimum of 4 s.
    faster = default_path(balls_capture, "draft", (40, 24), (), None, None, None, 30.0)
    assert (len(faster), faster.fps) == (120, 30.0)
    longer = default_path(balls_capture, "draft", (40, 24), (), None, None, 2.5, None)
    assert (len(longer), longer.fps) == (60, 24.0)


def test_long_videos_of_large_frames_stay_within_the_pixel_budget() -> None:
    count, fps = video_timing(500.0, True, 320 * 240, "draft")
    assert count * 320 * 240 <= PIXELS["draft"]
    assert fps == 12.0
    assert video_timing(500.0, True, 320 * 240, "fine") == (720, 24.0)
    assert video_timing(1e-3, False, 100, "draft") == (288, 24.0)


SETTINGS = {"weighting": "nearest", "power": 1.5, "selection_radius": 2.0, "visibility_threshold": 0.1, "sharp": True}


@pytest.mark.parametrize("key", SETTINGS)
def test_rendering_settings_are_options_and_recorded(key: str, exact_run: RunFolder) -> None:
    render(exact_run.path, **SMALL, **{key: SETTINGS[key]})
    settings = json.loads(exact_run.render_summary("flythrough").read_text())["settings"]
    plain = rendering_settings(read_city(exact_run.city)) | {"sharp": False}
    assert {name: settings[name] for name in SETTINGS} == plain | {key: SETTINGS[key]}


def test_power_and_max_blocks_determine_the_weights(exact_run: RunFolder) -> None:
    weights = {}
    for name, options in {"even": {"power": 0.5}, "sharp": {"power": 8.0}, "one": {"max_blocks": 1}}.items():
        render(exact_run.path, **SMALL, name=name, **options)
        record = json.loads(exact_run.render_summary(name).read_text())
        weights[name] = sum(max(row["blocks"].values()) for row in record["frames"]) / len(record["frames"])
    assert weights["even"] < weights["sharp"] < weights["one"] == 1.0


def test_hidden_blocks_are_in_no_frame(exact_run: RunFolder) -> None:
    render(exact_run.path, **SMALL, hide=("b001",))
    record = json.loads(exact_run.render_summary("flythrough").read_text())
    assert {name for row in record["frames"] for name in row["blocks"]} == {"b000", "b002"}
    assert record["settings"]["hide"] == ["b001"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": -1.0}, "--power -1.0 is not a positive number"),
        ({"selection_radius": float("nan")}, "--selection-radius nan is not a positive number"),
        ({"visibility_threshold": 0.5}, "--visibility-threshold 0.5 is not from 0 to below 0.5"),
        ({"max_blocks": 0}, "--max-blocks 0 is out of range"),
        ({"hide": ("b009",)}, "no block 'b009'"),
        ({"hide": ("b000", "b001", "b002")}, "--hide leaves no block to render"),
        ({"hide": ("b000",), "block": "b001"}, "--hide cannot be combined with --block"),
        ({"mix": 0.5}, "--mix needs two presets"),
        ({"mix": 2.0, "appearance": "noon", "appearance_end": ("dusk",)}, "--mix 2 is not from 0 to 1"),
        ({"codes_of": "drive", "appearance": "noon"}, "--appearance cannot be combined with --codes-of"),
        ({"codes_of": "night"}, "the capture has no segment 'night'; name one of drive"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    options: dict[str, Any], message: str, exact_run: RunFolder
) -> None:
    with pytest.raises(BlockNerfError, match=message):
        render(exact_run.path, **SMALL, **options)
    assert not exact_run.renders.exists()


def test_a_record_of_an_older_version_is_refused(rendered_run: RunFolder) -> None:
    path = rendered_run.render_summary("flythrough")
    path.write_text(path.read_text().replace("blocknerf.render/3", "blocknerf.render/1"))
    with pytest.raises(RunError, match=r"render\.json: format: .*; choose another --name, or remove the folder"):
        render(rendered_run.path, **SMALL)


def test_a_path_out_of_reach_of_every_block_is_refused(exact_run: RunFolder, tmp_path: Path) -> None:
    path = default_path(read_capture(exact_run.capture), "draft", (20, 12), (), None, 2, None, None)
    poses = path.camera_to_world.clone()
    poses[:, 0, 3] += 1_700.0
    write_camera_path(replace(path, camera_to_world=poses), tmp_path / "path.json")
    with pytest.raises(
        RunError, match=r"no camera of the path is in reach of a block; the nearest, frame \d, is 1[67]\d\d"
    ):
        render(exact_run.path, trajectory=tmp_path / "path.json", name="elsewhere")
    assert not exact_run.render_folder("elsewhere").exists()


def test_frames_out_of_reach_are_counted(
    exact_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = default_path(read_capture(exact_run.capture), "draft", (20, 12), (), None, 2, None, None)
    poses = path.camera_to_world.clone()
    poses[1, 0, 3] += 1_700.0
    write_camera_path(replace(path, camera_to_world=poses), tmp_path / "path.json")
    render(exact_run.path, trajectory=tmp_path / "path.json", name="partly")
    assert "warning: 1 of 2 frames are out of reach of every block" in capsys.readouterr().out


def test_dataparser_transforms_need_a_camera_path(exact_run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="give it with --trajectory"):
        render(exact_run.path, dataparser_transforms=tmp_path / "dataparser_transforms.json")
