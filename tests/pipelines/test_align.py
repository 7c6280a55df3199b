"""Averaging of refined poses, and its use in evaluation, rendering and export."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections, apply_corrections, write_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.capture.transforms import read_transforms
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.geometry import compose, invert
from blocknerf.partitioning.frame_assignment import read_assignment, write_assignment
from blocknerf.trajectory.trajectory_file import read_trajectory
from pipelines.align import align
from pipelines.evaluate import evaluate
from pipelines.export import export
from pipelines.render import render
from pipelines.report import report

ERROR = PivotTransform(pivot=(8.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.02), translation=(0.1, -0.1, 0.05))
"""Error of the poses of the segment `wrong`."""


def correction() -> PivotTransform:
    """Return the inverse of `ERROR`."""
    return PivotTransform.of_matrix(invert(ERROR.matrix), torch.tensor([8.0, 0.0, 0.0]).double())


def displace(run: RunFolder) -> Capture:
    """Split pairs of images into the segments `right` and `wrong`; add `ERROR` to `wrong`. Return the true capture."""
    capture, frames = read_capture(run.capture), []
    for i, frame in enumerate(capture.frames):
        wrong, pose = i // 2 % 2 == 1, torch.tensor(frame.camera_to_world, dtype=torch.float64)
        rows = pose_from_flat(compose(ERROR.matrix, pose).flatten().tolist()) if wrong else frame.camera_to_world
        frames.append(replace(frame, segment="wrong" if wrong else "right", camera_to_world=rows))
    write_capture(replace(capture, frames=tuple(frames)), run.capture)
    return capture


def write_corrections_of_blocks(run: RunFolder, *, step: float = 0.0) -> None:
    """Write corrections that undo the error; in each block the translation is larger by `step`."""
    for i, name in enumerate(("b000", "b001", "b002")):
        inverse = correction()
        x, y, z = inverse.translation
        motions = {
            "right": PivotTransform(pivot=(8.0, 0.0, 0.0)),
            "wrong": replace(inverse, translation=(x + step * i, y, z)),
        }
        corrections = tuple(
            PoseCorrection(pose_segment=PoseSegment(segment=segment), frames=4, motion=motion)
            for segment, motion in motions.items()
        )
        write_corrections(PoseCorrections(corrections=corrections), run.pose_corrections(name))


def test_evaluation_uses_the_refined_poses(exact_run: RunFolder) -> None:
    displace(exact_run)
    plain = evaluate(exact_run.path, threads=1)
    write_corrections_of_blocks(exact_run)
    result = evaluate(exact_run.path, threads=1)
    assert plain.mean.psnr is not None
    assert result.mean.psnr is not None
    assert plain.mean.psnr < 38.0
    assert result.mean.psnr > 44.0
    assert "Poses are those of the capture" in plain.protocol.text
    assert "Poses are refined" in result.protocol.text


def test_an_updated_block_uses_the_common_trajectory(exact_run: RunFolder) -> None:
    """It has no corrections, since it was trained on new images with fixed poses."""
    displace(exact_run)
    write_corrections_of_blocks(exact_run)
    align(exact_run.path)
    exact_run.pose_corrections("b001").unlink()
    capture, update_capture = read_capture(exact_run.capture), exact_run.update_capture("b001", "later")
    write_capture(capture, update_capture)
    member = replace(read_assignment(exact_run.frames("b001")), capture=update_capture.name)
    write_assignment(member, capture, exact_run.frames("b001"))
    assert evaluate(exact_run.path, threads=1).blocks["b001"].psnr > 44.0


def test_keyframes_use_the_common_trajectory(exact_run: RunFolder) -> None:
    truth = displace(exact_run)
    write_corrections_of_blocks(exact_run)
    align(exact_run.path)
    wrong = [i for i, frame in enumerate(read_capture(exact_run.capture).frames) if frame.segment == "wrong"]
    names = (truth.frames[wrong[0]].name, truth.frames[wrong[-1]].name)
    render(exact_run.path, keyframes=names, frames=2, width=10, threads=1)
    path = read_trajectory(exact_run.trajectory("flythrough"))
    expected = truth.cameras().camera_to_world[[wrong[0], wrong[-1]]]
    assert torch.allclose(path.camera_to_world, expected, atol=1e-4)


def test_residuals_are_printed_and_reported(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    displace(exact_run)
    write_corrections_of_blocks(exact_run, step=0.02)
    result = align(exact_run.path)
    assert result is not None
    assert result == read_pose_average(exact_run.poses)
    assert 0.001 < max(residual.translation for residual in result.residuals) < 0.02
    output = capsys.readouterr().out
    assert "b002" in output
    assert " cm" in output
    report(exact_run.path)
    page = exact_run.report.read_text()
    assert "<h2>Poses</h2>" in page
    assert "compared with the common trajectory" in page


def test_exported_poses_are_the_averaged_ones(exact_run: RunFolder, tmp_path: Path) -> None:
    truth = displace(exact_run)
    write_corrections_of_blocks(exact_run)
    align(exact_run.path)
    capture = read_capture(exact_run.capture)
    out = capture.image_dir / f"transforms_{tmp_path.name}.json"
    assert export(exact_run.path, poses=out) == out
    back = read_transforms(out)
    out.unlink()
    expected = apply_corrections(capture, read_pose_average(exact_run.poses).trajectory)
    assert torch.allclose(back.cameras().camera_to_world, expected.cameras().camera_to_world, atol=1e-6)
    assert torch.allclose(back.cameras().camera_to_world, truth.cameras().camera_to_world, atol=1e-4)
    assert [frame.segment for frame in back.frames] == [frame.segment for frame in capture.frames]


def test_align_does_nothing_without_refined_poses(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    exact_run.poses.write_text("of an earlier training")
    assert align(exact_run.path) is None
    assert "no block refined its poses" in capsys.readouterr().out
    assert not exact_run.poses.exists()
    with pytest.raises(RunError, match=r"poses\.json: there are no aligned poses; run 'blocknerf align'"):
        export(exact_run.path, poses=exact_run.path / "transforms.json")


def test_align_requires_trained_blocks(exact_run: RunFolder) -> None:
    write_corrections_of_blocks(exact_run)
    exact_run.field("b001").unlink()
    with pytest.raises(RunError, match="block b001 is not trained; run 'blocknerf train' first"):
        align(exact_run.path)
