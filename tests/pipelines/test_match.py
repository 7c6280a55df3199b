"""Looks are matched from a light outward, kept while they are good, and shown by films."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture, read_capture, write_capture
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
from blocknerf.partition.frame_assignment import read_assignment
from blocknerf.trajectory.trajectory_file import read_trajectory
from pipelines.cli import main
from pipelines.match import match
from pipelines.render import render

SMALL: dict[str, Any] = {"frames": 3, "width": 10, "threads": 1}


@pytest.fixture
def small_run(exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Three blocks with small fields as they are before training, alike but for place and codes."""
    monkeypatch.undo()
    for name, value in (("VIEW_SIDE", 10), ("CANDIDATES", 4), ("VIEWS", 2)):
        monkeypatch.setattr(overlaps, name, value)
    capture, city = read_capture(exact_run.capture), read_city(exact_run.city)
    for number, block in enumerate(city.blocks):
        torch.manual_seed(0)
        frames = read_assignment(exact_run.frames(block.name), capture).frames
        spec = FieldSpec(
            origin=block.origin, half_extent=block.radius, near=0.1, far=60.0,
            frames=tuple(capture.frames[i].name for i in frames), exposure_reference=1.0, num_levels=2, log2_hashmap_size=6,
            appearance_dim=6, proposal_num_levels=2, proposal_log2_hashmap_size=6, visibility_log2_hashmap_size=6, num_proposal_samples=8,
            num_samples=8,
        )  # fmt: skip
        field = BlockField(spec)
        torch.manual_seed(number)
        torch.nn.init.normal_(field.appearance_codes, std=3.0)
        save_field(field, exact_run.field(block.name), step=1, city=city.digest)
    return exact_run


def test_a_look_has_a_code_for_every_block_and_says_of_what(small_run: RunFolder, capsys) -> None:
    made = match(small_run.path, appearance="noon", reference="photo06.png", threads=1)
    again = read_preset(small_run.appearance_preset("noon"))
    assert sorted(again.codes) == ["b000", "b001", "b002"]
    # Every 4th photograph, from the third, is held out, so that one has no code: its segment stands for it.
    assert (made.reference_block, again.reference_block, again.frame, again.segment) == (
        "b001",
        "b001",
        "photo06.png",
        "drive",
    )
    assert torch.equal(again.codes["b001"], load_field(small_run.field("b001")).mean_appearance_code())
    known = match(small_run.path, appearance="morning", reference="photo01.png", threads=1)
    assert torch.equal(known.codes["b000"], load_field(small_run.field("b000")).mean_appearance_code(["photo01.png"]))
    told = capsys.readouterr().out
    assert "b000 - b001" in told
    assert "b001 - b002" in told


def test_matching_narrows_the_seams(small_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import match as module

    told: list[Any] = []
    monkeypatch.setattr(module, "_print_changes", told.extend)
    match(small_run.path, threads=1)
    assert len(told) == 2
    # What untrained blocks show depends little on codes; where the answer is known, tests/city asks for more.
    assert all(change.after < change.before for change in told), told


def test_a_good_look_is_kept_and_an_old_one_matched_again(small_run: RunFolder) -> None:
    match(small_run.path, reference="drive", threads=1)
    path = small_run.appearance_preset("default")
    before = path.read_bytes()
    match(small_run.path, threads=1)
    assert path.read_bytes() == before
    field = load_field(small_run.field("b002"))
    field.appearance_codes += 0.1
    save_field(field, small_run.field("b002"), step=2, city=read_city(small_run.city).digest)
    again = match(small_run.path, threads=1)
    assert again.field_fingerprints["b002"] != read_header_of(before, small_run).field_fingerprints["b002"]
    assert again.reference_block == read_preset(path).reference_block


def read_header_of(content: bytes, run: RunFolder) -> AppearancePreset:
    path = run.path / "before.safetensors"
    path.write_bytes(content)
    return read_preset(path)


def test_a_block_trained_later_joins(small_run: RunFolder) -> None:
    kept = small_run.field("b002").read_bytes()
    small_run.field("b002").unlink()
    assert sorted(match(small_run.path, threads=1).codes) == ["b000", "b001"]
    small_run.field("b002").write_bytes(kept)
    with pytest.raises(
        RunError, match="block b002 was trained since; run 'blocknerf match' with --appearance default again"
    ):
        render(small_run.path, **SMALL)
    assert sorted(match(small_run.path, threads=1).codes) == ["b000", "b001", "b002"]


def test_blocks_without_a_seam_keep_their_own_idea(
    small_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overlaps, "MIN_SHARED_VISIBILITY", 1.0)
    made = match(small_run.path, threads=1)
    for name, code in made.codes.items():
        assert torch.equal(code, load_field(small_run.field(name)).mean_appearance_code())
    assert capsys.readouterr().out.count("warning: no view is shared with block") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "nowhere"], "has neither a photograph nor a segment 'nowhere'; its segments are drive"),
        (["--appearance", "../x"], "--appearance '../x' is not letters"),
        (["--block", "b9"], "no block 'b9'"),
        (["--steps", "0"], "--steps 0 is out of range; give a whole number of at least 1"),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    arguments: list[str], message: str, small_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["match", str(small_run.path), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert small_run.preset_names() == ()


def test_a_look_of_another_light_is_not_replaced(small_run: RunFolder) -> None:
    match(small_run.path, appearance="noon", reference="photo00.png", threads=1)
    for options, message in (
        ({"from_": "drive"}, "is of the light of photo00.png, not of drive"),
        ({"block": "b002"}, "begins at block b000"),
    ):
        with pytest.raises(RunError, match=rf"{message}.*choose another --appearance, or remove the file"):
            match(small_run.path, appearance="noon", threads=1, **options)
    small_run.field("b002").unlink()
    with pytest.raises(RunError, match="block b002 is not trained; run 'blocknerf train --block b002'"):
        match(small_run.path, appearance="dusk", block="b002", threads=1)


@pytest.fixture
def lit_run(exact_run: RunFolder, balls_capture: Capture, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The row of balls with exposures that grow along the drive, and the looks bright and dark."""
    frames = [replace(frame, exposure=2.0 ** (i / 16)) for i, frame in enumerate(balls_capture.frames)]
    write_capture(replace(balls_capture, frames=tuple(frames)), exact_run.capture)
    monkeypatch.setattr(appearance_presets, "fingerprint", lambda path: "known")
    city = read_city(exact_run.city)
    for name, level in (("bright", 0.1), ("dark", -0.2)):
        codes = {block.name: torch.full((3,), level) for block in city.blocks}
        look = AppearancePreset(
            reference_block="b000", frame=None, segment="drive", exposure=1.0, city=city.digest,
            field_fingerprints=dict.fromkeys(codes, "known"), codes=codes,
        )  # fmt: skip
        write_preset(look, exact_run.appearance_preset(name))
    return exact_run


def shown(run: RunFolder, name: str, frame: int) -> Any:
    return read_image(run.frames_dir(name) / f"{frame:05d}.png")


def test_a_film_shows_a_look_at_the_exposure_around_it(lit_run: RunFolder) -> None:
    render(lit_run.path, **SMALL, appearance="bright", name="film")
    film, renderer = read_trajectory(lit_run.trajectory("film")), CityRenderer(lit_run)
    codes = {name: torch.full((3,), 0.1) for name in ("b000", "b001", "b002")}
    around = renderer.appearance("drive")
    exposures = [around.exposure_at(film.cameras.centers[i]) for i in range(3)]
    assert exposures[0] == pytest.approx(1.2, abs=0.1)
    assert exposures[2] == pytest.approx(1.8, abs=0.15)
    for i, exposure in enumerate(exposures):
        picture = to_uint8(renderer.render(film.cameras, i, codes=codes, exposure=exposure).color)
        assert (shown(lit_run, "film", i) == picture).all()


def test_an_exposure_may_be_fixed(lit_run: RunFolder) -> None:
    render(lit_run.path, **SMALL, exposure=0.5, name="film")
    film, renderer = read_trajectory(lit_run.trajectory("film")), CityRenderer(lit_run)
    picture = to_uint8(renderer.render(film.cameras, 1, exposure=0.5).color)
    assert (shown(lit_run, "film", 1) == picture).all()
    with pytest.raises(RunError, match=r"holds a video with exposure 0\.5, not 0\.6"):
        render(lit_run.path, **SMALL, exposure=0.6, name="film")


def test_light_passes_along_the_film(lit_run: RunFolder) -> None:
    render(lit_run.path, **SMALL, appearance="bright:dark", exposure=1.0, name="film")
    film, renderer = read_trajectory(lit_run.trajectory("film")), CityRenderer(lit_run)
    for i, level in enumerate((0.1, -0.05, -0.2)):
        codes = {name: torch.full((3,), level) for name in ("b000", "b001", "b002")}
        picture = to_uint8(renderer.render(film.cameras, i, codes=codes, exposure=1.0).color)
        assert (abs(shown(lit_run, "film", i).astype(int) - picture) <= 1).all()
    assert json.loads(lit_run.render_summary("film").read_text())["settings"]["look"] == "bright:dark"


def test_many_looks_pass_one_after_the_other(lit_run: RunFolder) -> None:
    bright, dark = (read_preset(lit_run.appearance_preset(name)) for name in ("bright", "dark"))
    light = AppearanceTrack(presets=(bright, dark, bright))
    renderer, camera = CityRenderer(lit_run), read_capture(lit_run.capture).cameras()[0]
    levels = [
        float(light.render_options_at(share, renderer, camera)["codes"]["b001"][0])
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert levels == pytest.approx([0.1, -0.05, -0.2, -0.05, 0.1])
    assert interpolate_presets(bright, dark, 1.0)["b000"].tolist() == dark.codes["b000"].tolist()


def test_the_default_look_is_shown_where_none_is_named(lit_run: RunFolder) -> None:
    lit_run.appearance_preset("dark").rename(lit_run.appearance_preset("default"))
    render(lit_run.path, **SMALL, name="film")
    render(lit_run.path, **SMALL, name="followed", segment="drive")
    assert json.loads(lit_run.render_summary("film").read_text())["settings"]["look"] == "default"
    assert json.loads(lit_run.render_summary("followed").read_text())["settings"]["look"] is None
    assert shown(lit_run, "film", 1).mean() < shown(lit_run, "followed", 1).mean() - 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--appearance", "noon"], "there is no such look, the run has bright, dark; run 'blocknerf match'"),
        (["--appearance", "bright:"], "--appearance '' is not letters"),
        (["--exposure", "0"], "--exposure 0 is not a positive number; give one like 1"),
        (["--exposure", "nan"], "is not a positive number"),
    ],
)
def test_lights_that_cannot_be_shown_are_refused_in_one_line(
    arguments: list[str], message: str, lit_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", str(lit_run.path), "--frames", "2", "--width", "10", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not lit_run.renders.exists()


def test_an_exposure_needs_photographs_that_say_theirs(exact_run: RunFolder) -> None:
    with pytest.raises(RunError, match="--exposure has no meaning here: the photographs do not say theirs"):
        render(exact_run.path, **SMALL, exposure=1.0)


def test_a_corrupt_look_is_refused(lit_run: RunFolder) -> None:
    Path(lit_run.appearance_preset("dark")).write_bytes(b"not a look")
    with pytest.raises(RunError, match=r"dark\.safetensors: not a readable look"):
        render(lit_run.path, **SMALL, appearance="dark")
