"""Poses that blocks refined: brought together, used in evaluation, and handed on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.capture.capture import Capture, read_capture, write_capture
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections, apply_corrections, write_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.capture.transforms import read_transforms
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.geometry import compose, invert
from blocknerf.partition.frame_assignment import read_assignment, write_assignment
from blocknerf.trajectory.trajectory_file import read_trajectory
from pipelines.align import align
from pipelines.evaluate import evaluate
from pipelines.export import export
from pipelines.render import render
from pipelines.report import report

ERROR = PivotTransform(pivot=(8.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.02), translation=(0.1, -0.1, 0.05))
"""By how much every other photograph's pose is wrong."""


def correction() -> PivotTransform:
    """What undoes it."""
    return PivotTransform.of_matrix(invert(ERROR.matrix), torch.tensor([8.0, 0.0, 0.0]).double())


def displace(run: RunFolder) -> Capture:
    """Odd and even pairs of photographs become two drives, of which the second's poses are wrong; gives the truth."""
    capture, frames = read_capture(run.capture), []
    for i, frame in enumerate(capture.frames):
        wrong, pose = i // 2 % 2 == 1, torch.tensor(frame.camera_to_world, dtype=torch.float64)
        rows = pose_from_flat(compose(ERROR.matrix, pose).flatten().tolist()) if wrong else frame.camera_to_world
        frames.append(replace(frame, segment="wrong" if wrong else "right", camera_to_world=rows))
    write_capture(replace(capture, frames=tuple(frames)), run.capture)
    return capture


def learn(run: RunFolder, *, more: float = 0.0) -> None:
    """As if blocks had learned to undo it, each a little differently from the one before."""
    for i, name in enumerate(("b000", "b001", "b002")):
        right = correction()
        x, y, z = right.translation
        motions = {
            "right": PivotTransform(pivot=(8.0, 0.0, 0.0)),
            "wrong": replace(right, translation=(x + more * i, y, z)),
        }
        offsets = tuple(
            PoseCorrection(pose_segment=PoseSegment(segment=name), frames=4, motion=each)
            for name, each in motions.items()
        )
        write_corrections(PoseCorrections(corrections=offsets), run.pose_corrections(name))


def test_scores_are_of_where_blocks_learned_that_photographs_stand(exact_run: RunFolder) -> None:
    displace(exact_run)
    plain = evaluate(exact_run.path, threads=1)
    learn(exact_run)
    found = evaluate(exact_run.path, threads=1)
    assert plain.mean.psnr is not None
    assert found.mean.psnr is not None
    assert plain.mean.psnr < 38.0
    assert found.mean.psnr > 44.0
    assert "Poses are as given" in plain.protocol.text
    assert "Poses are refined" in found.protocol.text


def test_an_updated_block_sees_the_others_photographs_where_the_trajectory_has_them(exact_run: RunFolder) -> None:
    """It has no offsets, since photographs of its own train it, whose poses are as given."""
    displace(exact_run)
    learn(exact_run)
    align(exact_run.path)
    exact_run.pose_corrections("b001").unlink()
    capture, own = read_capture(exact_run.capture), exact_run.update_capture("b001", "later")
    write_capture(capture, own)
    member = replace(read_assignment(exact_run.frames("b001")), capture=own.name)
    write_assignment(member, capture, exact_run.frames("b001"))
    assert evaluate(exact_run.path, threads=1).blocks["b001"].psnr > 44.0


def test_a_film_is_of_photographs_where_the_trajectory_has_them(exact_run: RunFolder) -> None:
    truth = displace(exact_run)
    learn(exact_run)
    align(exact_run.path)
    wrong = [i for i, frame in enumerate(read_capture(exact_run.capture).frames) if frame.segment == "wrong"]
    names = (truth.frames[wrong[0]].name, truth.frames[wrong[-1]].name)
    render(exact_run.path, keyframes=names, frames=2, width=10, threads=1)
    film = read_trajectory(exact_run.trajectory("flythrough"))
    expected = truth.cameras().camera_to_world[[wrong[0], wrong[-1]]]
    assert torch.allclose(film.camera_to_world, expected, atol=1e-4)


def test_disagreement_is_told_and_shown(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    displace(exact_run)
    learn(exact_run, more=0.02)
    found = align(exact_run.path)
    assert found is not None
    assert found == read_pose_average(exact_run.poses)
    assert 0.001 < max(each.shift for each in found.residuals) < 0.02
    told = capsys.readouterr().out
    assert "b002" in told
    assert " cm" in told
    report(exact_run.path)
    page = exact_run.report.read_text()
    assert "<h2>Poses</h2>" in page
    assert "against the common trajectory" in page


def test_exported_poses_are_imported_as_what_was_reconciled(exact_run: RunFolder, tmp_path: Path) -> None:
    truth = displace(exact_run)
    learn(exact_run)
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


def test_poses_that_nobody_refined_are_not_reconciled(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    exact_run.poses.write_text("of an earlier training")
    assert align(exact_run.path) is None
    assert "poses are as given" in capsys.readouterr().out
    assert not exact_run.poses.exists()
    with pytest.raises(RunError, match=r"poses\.json: there are no reconciled poses; run 'blocknerf align'"):
        export(exact_run.path, poses=exact_run.path / "transforms.json")


def test_untrained_blocks_have_no_say_yet(exact_run: RunFolder) -> None:
    learn(exact_run)
    exact_run.field("b001").unlink()
    with pytest.raises(RunError, match="block b001 is not trained; run 'blocknerf train' first"):
        align(exact_run.path)
