"""Scores are exact on exact scenes, and fitted on one half only."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf import files
from blocknerf.capture.capture import Capture, read_capture, write_capture
from blocknerf.city.manifest import read_city, write_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import OptionError, RunError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.images import read_image, to_uint8, write_image
from blocknerf.metrics.image_quality import psnr
from pipelines import evaluate as evaluate_job
from pipelines.evaluate import EvalImage, evaluate, evenly_spaced, render_eval_image
from pipelines.evaluation_file import read_evaluation
from tests.pipelines.conftest import retrain


def test_a_perfect_city_scores_near_the_limit_of_bytes(exact_run: RunFolder) -> None:
    found = evaluate(exact_run.path, threads=1)
    assert [frame.index for frame in found.frames] == [2, 6, 10, 14]
    for frame in found.frames:
        assert frame.metrics.psnr is not None
        assert frame.metrics.psnr > 45.0
        assert frame.metrics.psnr_masked == frame.metrics.psnr
        assert frame.metrics.ssim == pytest.approx(1.0, abs=0.01)
        assert sum(frame.blocks.values()) == pytest.approx(1.0, abs=1e-4)
        assert frame.block_psnr.keys() == {name for name, weight in frame.blocks.items() if weight >= 0.1}
    assert found.blocks.keys() == {"b000", "b001", "b002"}
    assert found.mean.psnr == pytest.approx(sum(f.metrics.psnr or 0.0 for f in found.frames) / 4, abs=1e-3)


def test_without_fitting_the_light_it_would_score_far_less(exact_run: RunFolder) -> None:
    """The photographs differ in light, so what is measured above is the fit."""
    capture, renderer = read_capture(exact_run.capture), CityRenderer(exact_run)
    exam = EvalImage.of(capture, 6, 1)
    plain = psnr(renderer.render(exam.camera).color[:, exam.center :], exam.photo[:, exam.center :])
    assert plain is not None
    assert plain < 30.0


def test_the_right_half_never_reaches_the_fit(exact_run: RunFolder) -> None:
    capture, renderer = read_capture(exact_run.capture), CityRenderer(exact_run)
    exam = EvalImage.of(capture, 6, 1)
    spoiled = exam.photo.clone()
    spoiled[:, exam.center :] = 0.0
    seen, other = render_eval_image(renderer, exam), render_eval_image(renderer, replace(exam, photo=spoiled))
    assert len(seen.parts) > 1
    assert torch.equal(seen.color, other.color)
    assert [part.name for part in seen.parts] == [part.name for part in other.parts]
    assert (exam.fit_pixels(10_000) % exam.photo.shape[1]).max() < exam.center
    assert len(exam.fit_pixels(10_000)) == exam.photo.shape[0] * exam.center


def test_what_is_scored_is_what_is_rendered(exact_run: RunFolder) -> None:
    capture, renderer = read_capture(exact_run.capture), CityRenderer(exact_run)
    exam = EvalImage.of(capture, 10, 1)
    seen, plain = render_eval_image(renderer, exam), renderer.render(exam.camera)
    assert seen.selection == plain.selection
    assert len(seen.parts) > 1
    for part in seen.parts:
        assert psnr(part.image.color[:, exam.center :], exam.photo[:, exam.center :]) > 40.0


def test_files_are_read_once_however_many_photographs(exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = files.open_regular

    def counted(path: Path, *options: Any) -> Any:
        read.append(path.name)
        return original(path, *options)

    monkeypatch.setattr(files, "open_regular", counted)
    assert len(evaluate(exact_run.path, threads=1).frames) == 4
    assert read.count("capture.json") == 3, "by the job, again before it reads images, and by the renderer"
    assert read.count("frames.json") == 0, "which photographs train a block matters where none is named"


def _masked(folder: RunFolder, capture: Capture) -> None:
    """Hide the lower right quarter of each photograph behind a mask, and paint it over."""
    root = folder.path / "masked"
    frames = []
    for frame in capture.frames:
        picture = read_image(capture.image_dir / frame.image)
        mask = torch.full(picture.shape[:2], 255, dtype=torch.uint8).numpy()
        picture[12:, 20:], mask[12:, 20:] = 255, 0
        picture[:6, :6], mask[:6, :6] = 0, 0
        write_image(root / frame.image, picture)
        write_image(root / f"mask_{frame.image}", mask)
        frames.append(replace(frame, mask=f"mask_{frame.image}"))
    write_capture(replace(capture, image_dir=root, frames=tuple(frames)), folder.capture)


def test_masked_scores_leave_out_what_moves(exact_run: RunFolder, balls_capture: Capture) -> None:
    _masked(exact_run, balls_capture)
    found = evaluate(exact_run.path, max_frames=2, threads=1)
    assert len(found.frames) == 2
    for frame in found.frames:
        assert frame.metrics.psnr is not None
        assert frame.metrics.psnr_masked is not None
        assert frame.metrics.psnr < 15.0
        assert frame.metrics.psnr_masked > 40.0


def test_the_file_says_what_the_issue_asks_for(exact_run: RunFolder) -> None:
    found = evaluate(exact_run.path, max_frames=2, downscale=2, threads=1)
    document = json.loads(exact_run.evaluation.read_text())
    assert {"protocol", "mean", "blocks", "frames"} <= document.keys()
    assert {"psnr", "ssim", "psnr_masked"} <= document["mean"].keys()
    assert [frame["index"] for frame in document["frames"]] == [2, 14]
    assert document["protocol"]["downscale"] == 2
    assert "left half" in document["protocol"]["text"]
    back = read_evaluation(exact_run.evaluation)
    assert back.protocol == found.protocol
    assert back.frames[0].name == found.frames[0].name
    assert back.mean.psnr == pytest.approx(found.mean.psnr, abs=1e-3)


def test_evaluation_is_deterministic_and_skipped_when_done(exact_run: RunFolder) -> None:
    evaluate(exact_run.path, max_frames=2, threads=1)
    first = exact_run.evaluation.read_bytes()
    exact_run.evaluation.unlink()
    evaluate(exact_run.path, max_frames=2, threads=1)
    assert exact_run.evaluation.read_bytes() == first
    stamp = exact_run.evaluation.stat().st_mtime_ns
    evaluate(exact_run.path, max_frames=2, threads=1)
    assert exact_run.evaluation.stat().st_mtime_ns == stamp
    evaluate(exact_run.path, max_frames=1, threads=1)
    assert len(read_evaluation(exact_run.evaluation).frames) == 1


def test_pictures_are_kept_for_the_report(exact_run: RunFolder, balls_capture: Capture) -> None:
    evaluate(exact_run.path, max_frames=2, threads=1)
    names = {path.name for path in exact_run.evaluation_images.iterdir()}
    kinds = ("photo", "render", "error", "depth")
    assert names == {f"{index:05d}_{kind}.png" for index in (2, 14) for kind in kinds}
    assert (read_image(exact_run.evaluation_images / "00002_photo.png") == balls_capture.read_image(2)).all()
    error = read_image(exact_run.evaluation_images / "00002_error.png")
    assert error.mean() < 20


def test_the_table_is_headed_by_the_protocol(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(exact_run.path, max_frames=1, threads=1)
    text = capsys.readouterr().out
    assert text.index("Every 4th photograph was kept") < text.index("PSNR")
    assert "1 of these 4, evenly spread" in text


def test_nothing_held_out_is_nothing_to_judge(exact_run: RunFolder) -> None:
    write_city(replace(read_city(exact_run.city), test_every=0), exact_run.city)
    found = evaluate(exact_run.path, threads=1)
    assert found.frames == ()
    assert found.mean.psnr is None
    assert read_evaluation(exact_run.evaluation) == found


def test_broken_requests_and_files_are_refused(exact_run: RunFolder) -> None:
    with pytest.raises(OptionError, match="--max-frames 0 is out of range"):
        evaluate(exact_run.path, max_frames=0, threads=1)
    exact_run.evaluation.write_text('{"format": "blocknerf.evaluation/3", "protocol": {}}')
    with pytest.raises(RunError, match=r"evaluation.json: blocks is missing; add it, or remove the file"):
        evaluate(exact_run.path, threads=1)
    exact_run.evaluation.write_text('{"format": "other"}')
    with pytest.raises(RunError, match=r"'other' is not blocknerf\.evaluation/2"):
        evaluate(exact_run.path, threads=1)


def test_frames_are_spread_evenly() -> None:
    assert evenly_spaced(list(range(10)), 4) == [0, 3, 6, 9]
    assert evenly_spaced([5], 4) == [5]
    assert evenly_spaced([], 4) == []


def test_bytes_limit_what_can_be_scored() -> None:
    """Rounding to bytes costs about 59 dB, so 45 dB above is nearly exact."""
    values = torch.rand(40, 40, 3, generator=torch.Generator().manual_seed(0))
    assert psnr(torch.from_numpy(to_uint8(values)).float() / 255, values) == pytest.approx(58.9, abs=0.5)


def test_scores_carry_the_fingerprints_of_their_blocks(exact_run: RunFolder) -> None:
    evaluate(exact_run.path, threads=1)
    document = json.loads(exact_run.evaluation.read_text())
    marks = {name: fingerprint(exact_run.field(name)) for name in ("b000", "b001", "b002")}
    assert document["inputs"]["blocks"] == marks


def test_a_retrained_block_is_scored_again(
    exact_run: RunFolder, count_renderings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(exact_run.path, threads=1)
    retrain(exact_run, "b001", seed=9)
    count_renderings.clear()
    capsys.readouterr()
    found = evaluate(exact_run.path, threads=1)
    assert len(count_renderings) == 4
    assert found.inputs.blocks["b001"] == fingerprint(exact_run.field("b001"))
    assert "stale: block b001 was retrained since; scoring again" in capsys.readouterr().out
    count_renderings.clear()
    evaluate(exact_run.path, threads=1)
    assert count_renderings == []
    assert "done already" in capsys.readouterr().out


def test_a_block_that_is_retrained_meanwhile_leaves_no_scores(
    exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = evaluate_job.render_eval_image

    def answer_late(*arguments: Any) -> Any:
        seen = original(*arguments)
        retrain(exact_run, "b000", seed=9)
        return seen

    monkeypatch.setattr(evaluate_job, "render_eval_image", answer_late)
    with pytest.raises(RunError, match="block b000 was retrained since, while it was scored; run the same command"):
        evaluate(exact_run.path, threads=1)
    assert not exact_run.evaluation.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("weighting", "nearest"), ("power", 1.5), ("selection_radius", 2.0), ("visibility_threshold", 0.1)],
)
def test_a_setting_of_rendering_is_an_option_and_part_of_the_protocol(
    key: str, value: object, exact_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(exact_run.path, max_frames=1, threads=1)
    found = evaluate(exact_run.path, max_frames=1, threads=1, **{key: value})
    assert getattr(found.protocol, key) == value
    assert json.loads(exact_run.evaluation.read_text())["protocol"][key] == value
    assert "is by another protocol; scoring again" in capsys.readouterr().out


def test_a_setting_out_of_range_is_refused(exact_run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"^--power 0\.0 is not a positive number"):
        evaluate(exact_run.path, threads=1, power=0.0)
