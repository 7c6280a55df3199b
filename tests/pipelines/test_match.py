"""Appearance presets are matched, kept while they are up to date, and used by videos."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.city import appearance_presets, overlaps
from blocknerf.city.appearance_presets import AppearancePreset, interpolate_presets, read_preset, write_preset
from blocknerf.city.appearance_track import AppearanceTrack
from blocknerf.city.manifest import read_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import load_field, save_field
from blocknerf.fields.spec import FieldSpec
from blocknerf.images import read_image, to_uint8
from blocknerf.partitioning.frame_assignment import read_assignment
from blocknerf.trajectory.trajectory_file import read_trajectory
from pipelines.cli import main
from pipelines.match import match
from pipelines.render import render

SMALL: dict[str, Any] = {"frames": 3, "width": 10, "threads": 1}


@pytest.fixture
def small_run(exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Three blocks with small untrained fields that differ only in origin and codes."""
    monkeypatch.undo()
    for name, value in (("VIEW_SIDE", 10), ("CANDIDATES", 4), ("VIEWS", 2)):
        monkeypatch.setattr(overlaps, name, value)
    capture, city = read_capture(exact_run.capture), read_city(exact_run.city)
    for number, block in enumerate(city.blocks):
        torch.manual_seed(0)
        frames = read_assignment(exact_run.frames(block.name), capture).frames
        spec = FieldSpec(
            origin=block.origin, half_extent=block.radius, near=0.1, far=60.0,
            frames=tuple(capture.frames[i].name for i in frames), exposure_reference=1.0, num_levels=2,
            log2_hashmap_size=6, appearance_dim=6, proposal_num_levels=2, proposal_log2_hashmap_size=6,
            visibility_log2_hashmap_size=6, num_proposal_samples=8, num_samples=8,
        )  # fmt: skip
        field = BlockField(spec)
        torch.manual_seed(number)
        torch.nn.init.normal_(field.appearance_codes, std=3.0)
        save_field(field, exact_run.field(block.name), step=1, city=city.digest)
    return exact_run


def test_a_preset_has_a_code_for_every_block_and_names_its_reference(small_run: RunFolder, capsys) -> None:
    preset = match(small_run.path, appearance="noon", reference="photo06.png", threads=1)
    again = read_preset(small_run.appearance_preset("noon"))
    assert sorted(again.codes) == ["b000", "b001", "b002"]
    # This image is held out, so it has no code, and its segment is used instead.
    assert (preset.reference_block, again.reference_block, again.frame, again.segment) == (
        "b001",
        "b001",
        "photo06.png",
        "drive",
    )
    assert torch.equal(again.codes["b001"], load_field(small_run.field("b001")).mean_appearance_code())
    known = match(small_run.path, appearance="morning", reference="photo01.png", threads=1)
    assert torch.equal(known.codes["b000"], load_field(small_run.field("b000")).mean_appearance_code(["photo01.png"]))
    output = capsys.readouterr().out
    assert "b000 - b001" in output
    assert "b001 - b002" in output


def test_matching_reduces_the_color_difference_in_overlaps(
    small_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import match as module

    changes: list[Any] = []
    monkeypatch.setattr(module, "_print_changes", changes.extend)
    match(small_run.path, threads=1)
    assert len(changes) == 2
    # Renderings of untrained blocks depend little on codes; tests/city has stricter tests with known codes.
    assert all(change.after < change.before for change in changes), changes


def test_a_current_preset_is_kept_and_a_stale_one_matched_again(small_run: RunFolder) -> None:
    match(small_run.path, reference="drive", threads=1)
    path = small_run.appearance_preset("default")
    before = path.read_bytes()
    match(small_run.path, threads=1)
    assert path.read_bytes() == before
    field = load_field(small_run.field("b002"))
    field.appearance_codes += 0.1
    save_field(field, small_run.field("b002"), step=2, city=read_city(small_run.city).digest)
    again = match(small_run.path, threads=1)
    assert again.field_fingerprints["b002"] != read_preset_from(before, small_run).field_fingerprints["b002"]
    assert again.reference_block == read_preset(path).reference_block


def read_preset_from(content: bytes, run: RunFolder) -> AppearancePreset:
    path = run.path / "before.safetensors"
    path.write_bytes(content)
    return read_preset(path)


def test_a_block_trained_later_is_added(small_run: RunFolder) -> None:
    content = small_run.field("b002").read_bytes()
    small_run.field("b002").unlink()
    assert sorted(match(small_run.path, threads=1).codes) == ["b000", "b001"]
    small_run.field("b002").write_bytes(content)
    with pytest.raises(
        RunError, match="block b002 was trained since; run 'blocknerf match' with --appearance default again"
    ):
        render(small_run.path, **SMALL)
    assert sorted(match(small_run.path, threads=1).codes) == ["b000", "b001", "b002"]


def test_blocks_without_overlap_keep_their_own_codes(
    small_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overlaps, "MIN_SHARED_VISIBILITY", 1.0)
    preset = match(small_run.path, threads=1)
    for name, code in preset.codes.items():
        assert torch.equal(code, load_field(small_run.field(name)).mean_appearance_code())
    assert capsys.readouterr().out.count("and its neighbors share no view with the others") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "nowhere"], "the capture has no image or segment 'nowhere'; its segments are drive"),
        (["--appearance", "../x"], "--appearance '../x' is not letters"),
        (["--block", "b9"], "no block 'b9'"),
        (["--steps", "0"], "--steps 0 is out of range; give a whole number of at least 1"),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    arguments: list[str], message: str, small_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["match", str(small_run.path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert small_run.preset_names() == ()


def test_a_preset_with_another_reference_is_not_replaced(small_run: RunFolder) -> None:
    match(small_run.path, appearance="noon", reference="photo00.png", threads=1)
    for options, message in (
        ({"reference": "drive"}, "is matched to photo00.png, not to drive"),
        ({"block": "b002"}, "starts from block b000"),
    ):
        with pytest.raises(RunError, match=rf"{message}.*choose another --appearance, or remove the file"):
            match(small_run.path, appearance="noon", threads=1, **options)
    with pytest.raises(RunError, match="the capture has no image or segment 'nowhere'"):
        match(small_run.path, appearance="noon", reference="nowhere", threads=1)
    small_run.field("b002").unlink()
    with pytest.raises(RunError, match="block b002 is not trained; run 'blocknerf train --block b002'"):
        match(small_run.path, appearance="dusk", block="b002", threads=1)


@pytest.fixture
def preset_run(exact_run: RunFolder, balls_capture: Capture, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The row of balls with exposures that increase along the drive, and the presets bright and dark."""
    frames = [replace(frame, exposure=2.0 ** (i / 16)) for i, frame in enumerate(balls_capture.frames)]
    write_capture(replace(balls_capture, frames=tuple(frames)), exact_run.capture)
    monkeypatch.setattr(appearance_presets, "fingerprint", lambda path: "known")
    city = read_city(exact_run.city)
    for name, level in (("bright", 0.1), ("dark", -0.2)):
        codes = {block.name: torch.full((3,), level) for block in city.blocks}
        preset = AppearancePreset(
            reference_block="b000", frame=None, segment="drive", exposure=1.0, city=city.digest,
            field_fingerprints=dict.fromkeys(codes, "known"), codes=codes,
        )  # fmt: skip
        write_preset(preset, exact_run.appearance_preset(name))
    return exact_run


def read_frame(run: RunFolder, name: str, frame: int) -> Any:
    return read_image(run.frames_dir(name) / f"{frame:05d}.png")


def test_a_video_uses_a_preset_and_the_exposure_near_its_camera(preset_run: RunFolder) -> None:
    render(preset_run.path, **SMALL, appearance="bright", name="video")
    path, renderer = read_trajectory(preset_run.trajectory("video")), CityRenderer(preset_run)
    codes = {name: torch.full((3,), 0.1) for name in ("b000", "b001", "b002")}
    query = renderer.appearance("drive")
    exposures = [query.exposure_at(path.cameras.centers[i]) for i in range(3)]
    assert exposures[0] == pytest.approx(1.2, abs=0.1)
    assert exposures[2] == pytest.approx(1.8, abs=0.15)
    for i, exposure in enumerate(exposures):
        expected = to_uint8(renderer.render(path.cameras, i, codes=codes, exposure=exposure).color)
        assert (read_frame(preset_run, "video", i) == expected).all()


def test_an_exposure_may_be_fixed(preset_run: RunFolder) -> None:
    render(preset_run.path, **SMALL, exposure=0.5, name="video")
    path, renderer = read_trajectory(preset_run.trajectory("video")), CityRenderer(preset_run)
    expected = to_uint8(renderer.render(path.cameras, 1, exposure=0.5).color)
    assert (read_frame(preset_run, "video", 1) == expected).all()
    with pytest.raises(RunError, match=r"contains a video with exposure 0\.5, not 0\.6"):
        render(preset_run.path, **SMALL, exposure=0.6, name="video")


def test_a_video_blends_between_two_presets(preset_run: RunFolder) -> None:
    render(preset_run.path, **SMALL, appearance="bright", appearance_end=("dark",), exposure=1.0, name="video")
    path, renderer = read_trajectory(preset_run.trajectory("video")), CityRenderer(preset_run)
    for i, level in enumerate((0.1, -0.05, -0.2)):
        codes = {name: torch.full((3,), level) for name in ("b000", "b001", "b002")}
        expected = to_uint8(renderer.render(path.cameras, i, codes=codes, exposure=1.0).color)
        assert (abs(read_frame(preset_run, "video", i).astype(int) - expected) <= 1).all()
    assert json.loads(preset_run.render_summary("video").read_text())["settings"]["appearance"] == ["bright", "dark"]


def test_several_presets_are_blended_in_order(preset_run: RunFolder) -> None:
    bright, dark = (read_preset(preset_run.appearance_preset(name)) for name in ("bright", "dark"))
    track = AppearanceTrack(presets=(bright, dark, bright))
    renderer, camera = CityRenderer(preset_run), read_capture(preset_run.capture).cameras()[0]
    levels = [
        float(track.render_options_at(position, renderer, camera)["codes"]["b001"][0])
        for position in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert levels == pytest.approx([0.1, -0.05, -0.2, -0.05, 0.1])
    assert interpolate_presets(bright, dark, 1.0)["b000"].tolist() == dark.codes["b000"].tolist()


def test_the_default_preset_is_used_if_none_is_named(preset_run: RunFolder) -> None:
    preset_run.appearance_preset("dark").rename(preset_run.appearance_preset("default"))
    render(preset_run.path, **SMALL, name="video")
    render(preset_run.path, **SMALL, name="followed", segment="drive")
    assert json.loads(preset_run.render_summary("video").read_text())["settings"]["appearance"] == ["default"]
    assert json.loads(preset_run.render_summary("followed").read_text())["settings"]["appearance"] == []
    assert read_frame(preset_run, "video", 1).mean() < read_frame(preset_run, "followed", 1).mean() - 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--appearance", "noon"], "there is no such preset, the run has bright, dark; run 'blocknerf match'"),
        (["--appearance", "../x"], "--appearance '../x' is not letters"),
        (["--exposure", "0"], "--exposure 0 is not a positive number; twice the exposure is one stop more"),
        (["--exposure", "nan"], "is not a positive number"),
    ],
)
def test_bad_appearance_options_are_refused_in_one_line(
    arguments: list[str], message: str, preset_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", str(preset_run.path), "--frames", "2", "--width", "10", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not preset_run.renders.exists()


def test_images_without_exposures_can_be_exposed(exact_run: RunFolder) -> None:
    """Their own exposure counts as 1."""
    brightness = []
    for number, exposure in enumerate((None, 1.0, 0.5)):
        render(exact_run.path, **SMALL, exposure=exposure, name=str(number))
        brightness.append(read_frame(exact_run, str(number), 0).mean())
    assert brightness[0] == brightness[1]
    assert brightness[2] == pytest.approx(0.5 * brightness[0], abs=1.0)


def test_a_corrupt_preset_is_refused(preset_run: RunFolder) -> None:
    Path(preset_run.appearance_preset("dark")).write_bytes(b"not a preset")
    with pytest.raises(RunError, match=r"dark\.safetensors: not a readable"):
        render(preset_run.path, **SMALL, appearance="dark")
