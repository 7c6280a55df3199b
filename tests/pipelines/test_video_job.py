"""Videos are kept up to date: stale frames are rendered again, damaged files are written again, others are kept."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections, write_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.appearance_presets import AppearancePreset, read_preset, write_preset
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint
from pipelines import video_job
from pipelines.align import align
from pipelines.render import render
from tests.pipelines.conftest import SMALL, retrain
from tests.tree import tree

NAME = "flythrough"


def read_summary(run: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run.render_summary(NAME).read_text())
    return content


def frames_with_block(run: RunFolder, block: str) -> list[int]:
    """Return the frames of a finished video that depend on a block."""
    return [row["frame"] for row in read_summary(run)["frames"] if block in row["considered"]]


def frame_path(run: RunFolder, frame: int, layer: str = "frames") -> Path:
    return run.frames_dir(NAME, layer) / f"{frame:05d}.png"


def store_preset(run: RunFolder, shifted: str | None = None) -> None:
    """Write an appearance preset for the run's blocks; the code of the block `shifted` differs."""
    names = ("b000", "b001", "b002")
    codes = {name: torch.full((3,), 0.1 if name == shifted else 0.0) for name in names}
    fingerprints = {name: fingerprint(run.field(name)) for name in names}
    city = read_city(run.city).digest
    preset = AppearancePreset(
        reference_block="b000",
        frame=None,
        segment="drive",
        exposure=None,
        city=city,
        field_fingerprints=fingerprints,
        codes=codes,
    )
    write_preset(preset, run.appearance_preset("noon"))


def test_the_record_has_the_fingerprints_of_its_blocks(rendered_run: RunFolder) -> None:
    inputs = read_summary(rendered_run)["inputs"]
    assert inputs["blocks"] == {name: fingerprint(rendered_run.field(name)) for name in ("b000", "b001", "b002")}
    assert (inputs["presets"], inputs["poses"]) == ({}, None)


def test_only_the_frames_of_a_retrained_block_are_rendered_again(
    rendered_run: RunFolder, count_renderings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    stale = frames_with_block(rendered_run, "b002")
    assert 0 < len(stale) < 6
    retrain(rendered_run, "b002", seed=9)
    count_renderings.clear()
    capsys.readouterr()
    render(rendered_run.path, **SMALL)
    assert count_renderings == stale
    assert f"stale: block b002 was retrained since: rendering {len(stale)} of 6 frames" in capsys.readouterr().out
    assert read_summary(rendered_run)["inputs"]["blocks"]["b002"] == fingerprint(rendered_run.field("b002"))
    count_renderings.clear()
    render(rendered_run.path, **SMALL)
    assert count_renderings == []
    assert "skipping: " in capsys.readouterr().out


def interrupt_at(frame: int, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None] | None = None) -> None:
    """Interrupt before a frame is written, or call `act` instead, once."""
    original, done = video_job.write_image, list[int]()

    def write(path: Path, image: np.ndarray) -> None:
        if path.name == f"{frame:05d}.png" and not done:
            done.append(frame)
            if act is None:
                raise KeyboardInterrupt
            act()
        original(path, image)

    monkeypatch.setattr(video_job, "write_image", write)


def test_an_unfinished_video_does_not_mix_old_and_new_blocks(
    exact_run: RunFolder, count_renderings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        render(exact_run.path, **SMALL)
    rows = [json.loads(line) for line in exact_run.render_log(NAME).read_text().splitlines()[1:]]
    old = [row["frame"] for row in rows if "b000" in row["considered"]]
    assert 0 < len(old) < 4
    retrain(exact_run, "b000", seed=9)
    count_renderings.clear()
    render(exact_run.path, **SMALL)
    assert count_renderings == [*old, 4, 5]
    assert read_summary(exact_run)["inputs"]["blocks"]["b000"] == fingerprint(exact_run.field("b000"))


def test_an_interrupted_update_of_a_video_resumes(
    rendered_run: RunFolder, count_renderings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *others = frames_with_block(rendered_run, "b002")
    retrain(rendered_run, "b002", seed=9)
    interrupt_at(second, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        render(rendered_run.path, **SMALL)
    count_renderings.clear()
    render(rendered_run.path, **SMALL)
    assert count_renderings == [second, *others]
    assert first not in count_renderings


def test_retraining_a_block_during_rendering_is_detected(
    exact_run: RunFolder, count_renderings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(5, monkeypatch, lambda: retrain(exact_run, "b000", seed=9))
    with pytest.raises(RunError, match="block b000 was retrained since, during rendering; run the same command"):
        render(exact_run.path, **SMALL)
    assert not exact_run.render_summary(NAME).exists()
    count_renderings.clear()
    render(exact_run.path, **SMALL)
    assert 0 in count_renderings
    assert 5 not in count_renderings
    assert read_summary(exact_run)["inputs"]["blocks"]["b000"] == fingerprint(exact_run.field("b000"))


def test_frames_of_a_rematched_preset_are_rendered_again(
    exact_run: RunFolder, count_renderings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    store_preset(exact_run)
    render(exact_run.path, **SMALL, appearance="noon")
    stale = frames_with_block(exact_run, "b002")
    store_preset(exact_run, shifted="b002")
    count_renderings.clear()
    render(exact_run.path, **SMALL, appearance="noon")
    assert count_renderings == stale
    assert "stale: preset noon was matched again since" in capsys.readouterr().out
    # Exposures are those of the preset's segment.
    write_preset(
        replace(read_preset(exact_run.appearance_preset("noon")), frame="photo01.png"),
        exact_run.appearance_preset("noon"),
    )
    count_renderings.clear()
    render(exact_run.path, **SMALL, appearance="noon")
    assert count_renderings == [], "the name of the reference does not matter"


def refine_poses(run: RunFolder, shift: float) -> None:
    """Write corrections of all blocks that translate the drive sideways by `shift`, and align."""
    motion = PivotTransform(pivot=(8.0, 0.0, 0.0), translation=(0.0, shift, 0.0))
    correction = PoseCorrection(pose_segment=PoseSegment(segment="drive"), frames=18, motion=motion)
    for name in ("b000", "b001", "b002"):
        write_corrections(PoseCorrections(corrections=(correction,)), run.pose_corrections(name))
    align(run.path)


def test_a_path_along_realigned_poses_is_rendered_again(
    exact_run: RunFolder, count_renderings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    refine_poses(exact_run, 0.5)
    render(exact_run.path, **SMALL)
    before = exact_run.trajectory(NAME).read_bytes()
    refine_poses(exact_run, 0.7)
    count_renderings.clear()
    render(exact_run.path, **SMALL)
    assert count_renderings == list(range(6))
    assert "the poses of the run were aligned again since" in capsys.readouterr().out
    assert exact_run.trajectory(NAME).read_bytes() != before
    refine_poses(exact_run, 0.5)
    with pytest.raises(RunError, match="is another camera path with this name"):
        render(exact_run.path, frames=7, width=20, threads=1)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[Callable[[Path], None], str] = {
    truncate: r"is damaged: it has \d+ bytes, not \d+",
    flip: "is damaged: its content",
    Path.unlink: "is missing",
}


@pytest.mark.parametrize("layer", ["frames", "depth"])
def test_a_damaged_video_is_written_again_from_its_frames(
    layer: str, exact_run: RunFolder, count_renderings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    render(exact_run.path, **SMALL, save_depth=True)
    path = exact_run.video(NAME, layer)
    original = path.read_bytes()
    count_renderings.clear()
    for damage, message in DAMAGES.items():
        damage(path)
        capsys.readouterr()
        render(exact_run.path, **SMALL)
        assert count_renderings == []
        assert path.read_bytes() == original
        output = capsys.readouterr().out
        assert re.search(f"{re.escape(str(path))}: {message}", output)
        assert "writing it again from its frames" in output


@pytest.mark.parametrize("damage", [truncate, flip])
@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_frame_is_rendered_again(
    damage: Callable[[Path], None], finished: bool, exact_run: RunFolder, count_renderings: list[int],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if finished:
        render(exact_run.path, **SMALL)
    else:
        interrupt_at(4, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            render(exact_run.path, **SMALL)
    original = frame_path(exact_run, 2).read_bytes()
    damage(frame_path(exact_run, 2))
    count_renderings.clear()
    render(exact_run.path, **SMALL)
    assert count_renderings == ([2] if finished else [2, 4, 5])
    assert frame_path(exact_run, 2).read_bytes() == original
    assert "00002.png: is damaged" in capsys.readouterr().out


def test_frames_may_be_removed_from_a_finished_video(rendered_run: RunFolder, count_renderings: list[int]) -> None:
    frame_path(rendered_run, 1).unlink()
    count_renderings.clear()
    render(rendered_run.path, **SMALL)
    assert count_renderings == []
    truncate(rendered_run.video(NAME))
    render(rendered_run.path, **SMALL)
    assert count_renderings == [1], "a new video needs it"


def test_a_depth_video_is_updated_with_the_frames_and_keeps_its_range(
    exact_run: RunFolder, count_renderings: list[int]
) -> None:
    render(exact_run.path, **SMALL, save_depth=True)
    before, kept = read_summary(exact_run), frame_path(exact_run, 0, "depth").read_bytes()
    retrain(exact_run, "b002", seed=9)
    render(exact_run.path, **SMALL)
    after = read_summary(exact_run)
    assert after["depth_range"] == before["depth_range"]
    assert after["videos"].keys() == {"frames", "depth"}
    assert frame_path(exact_run, 0, "depth").read_bytes() == kept
    # The exact scene did not change, so the videos did not either.
    assert after["videos"] == before["videos"]


def test_nothing_is_written_if_all_is_up_to_date(exact_run: RunFolder) -> None:
    render(exact_run.path, **SMALL, save_depth=True, save_block_weights=True)
    before = tree(exact_run.path)
    render(exact_run.path, **SMALL)
    assert tree(exact_run.path) == before
