"""Metrics are exact on exact scenes, and codes are fitted on one half only."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blocknerf import files
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.city.manifest import read_city, write_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import OptionError, RunError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.images import read_image, to_uint8, write_image
from blocknerf.metrics import psnr
from pipelines import evaluate as evaluate_job
from pipelines.evaluate import EvalImage, evaluate, evenly_spaced, render_eval_image
from pipelines.evaluation_file import by_psnr, read_evaluation
from tests.pipelines.conftest import retrain


def test_a_perfect_city_reaches_the_limit_of_8_bit_images(exact_run: RunFolder) -> None:
    result = evaluate(exact_run.path, threads=1)
    assert [frame.index for frame in result.frames] == [2, 6, 10, 14]
    for frame in result.frames:
        assert frame.metrics.psnr is not None
        assert frame.metrics.psnr > 45.0
        assert frame.metrics.psnr_masked == frame.metrics.psnr
        assert frame.metrics.ssim == pytest.approx(1.0, abs=0.01)
        assert sum(frame.blocks.values()) == pytest.approx(1.0, abs=1e-4)
        assert frame.block_psnr.keys() == {name for name, weight in frame.blocks.items() if weight >= 0.1}
    assert result.blocks.keys() == {"b000", "b001", "b002"}
    assert result.mean.psnr == pytest.approx(sum(f.metrics.psnr or 0.0 for f in result.frames) / 4, abs=1e-3)


def test_psnr_is_low_without_fitted_codes(exact_run: RunFolder) -> None:
    """The images differ in appearance, so the PSNR above measures the fit."""
    capture, renderer = read_capture(exact_run.capture), CityRenderer(exact_run)
    image = EvalImage.of(capture, 6, 1)
    plain = psnr(renderer.render(image.camera).color[:, image.center :], image.photo[:, image.center :])
    assert plain is not None
    assert plain < 30.0


def test_the_right_half_does_not_affect_the_fit(exact_run: RunFolder) -> None:
    capture, renderer = read_capture(exact_run.capture), CityRenderer(exact_run)
    image = EvalImage.of(capture, 6, 1)
    changed = image.photo.clone()
    changed[:, image.center :] = 0.0
    rendering, other = render_eval_image(renderer, image), render_eval_image(renderer, replace(image, photo=changed))
    assert len(rendering.parts) > 1
    assert torch.equal(rendering.color, other.color)
    assert [part.name for part in rendering.parts] == [part.name for part in other.parts]
    assert (image.fit_pixels(10_000) % image.photo.shape[1]).max() < image.center
    assert len(image.fit_pixels(10_000)) == image.photo.shape[0] * image.center


def test_evaluation_uses_the_normal_block_selection(exact_run: RunFolder) -> None:
    capture, renderer = read_capture(exact_run.capture), CityRenderer(exact_run)
    image = EvalImage.of(capture, 10, 1)
    rendering, plain = render_eval_image(renderer, image), renderer.render(image.camera)
    assert rendering.selection == plain.selection
    assert len(rendering.parts) > 1
    for part in rendering.parts:
        assert psnr(part.image.color[:, image.center :], image.photo[:, image.center :]) > 40.0


def test_files_are_read_once_for_all_images(exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = files.open_regular

    def counted(path: Path, *options: Any) -> Any:
        read.append(path.name)
        return original(path, *options)

    monkeypatch.setattr(files, "open_regular", counted)
    assert len(evaluate(exact_run.path, threads=1).frames) == 4
    assert read.count("capture.json") == 3, "by the job, before it reads images, and by the renderer"
    assert read.count("frames.json") == 0, "needed only if no image is named"


def _masked(folder: RunFolder, capture: Capture) -> None:
    """Mask the lower right quarter of each image, and paint it white."""
    root = folder.path / "masked"
    frames = []
    for frame in capture.frames:
        image = read_image(capture.image_dir / frame.image)
        mask = torch.full(image.shape[:2], 255, dtype=torch.uint8).numpy()
        image[12:, 20:], mask[12:, 20:] = 255, 0
        image[:6, :6], mask[:6, :6] = 0, 0
        write_image(root / frame.image, image)
        write_image(root / f"mask_{frame.image}", mask)
        frames.append(replace(frame, mask=f"mask_{frame.image}"))
    write_capture(replace(capture, image_dir=root, frames=tuple(frames)), folder.capture)


def test_masked_psnr_ignores_masked_pixels(exact_run: RunFolder, balls_capture: Capture) -> None:
    _masked(exact_run, balls_capture)
    result = evaluate(exact_run.path, max_frames=2, threads=1)
    assert len(result.frames) == 2
    for frame in result.frames:
        assert frame.metrics.psnr is not None
        assert frame.metrics.psnr_masked is not None
        assert frame.metrics.psnr < 15.0
        assert frame.metrics.psnr_masked > 40.0
        assert frame.metrics.ssim < frame.metrics.ssim_masked
        assert frame.metrics.whole_psnr < frame.metrics.whole_psnr_masked
        assert frame.metrics.whole_ssim < frame.metrics.whole_ssim_masked


def test_whole_images_are_rendered_with_mean_codes(exact_run: RunFolder) -> None:
    """These blocks have no trained codes, so the mean is zero."""
    (first, *_), capture = evaluate(exact_run.path, max_frames=1, threads=1).frames, read_capture(exact_run.capture)
    image, renderer = EvalImage.of(capture, first.index, 1), CityRenderer(exact_run)
    codes = dict.fromkeys(first.blocks, torch.zeros(3))
    rendering = renderer.render(image.camera, frame=image.name, codes=codes)
    assert first.metrics.whole_psnr == pytest.approx(psnr(rendering.color, image.photo), abs=1e-3)
    assert first.metrics.whole_psnr_masked == first.metrics.whole_psnr
    assert first.metrics.whole_psnr < first.metrics.psnr


def test_the_file_has_protocol_and_metrics(exact_run: RunFolder) -> None:
    result = evaluate(exact_run.path, max_frames=2, downscale=2, threads=1)
    document = json.loads(exact_run.evaluation.read_text())
    assert {"protocol", "mean", "blocks", "frames"} <= document.keys()
    assert {"psnr", "ssim", "psnr_masked", "whole_psnr", "whole_ssim"} <= document["mean"].keys()
    assert [frame["index"] for frame in document["frames"]] == [2, 14]
    assert document["protocol"]["downscale"] == 2
    assert "left half" in document["protocol"]["text"]
    back = read_evaluation(exact_run.evaluation)
    assert back.protocol == result.protocol
    assert back.frames[0].name == result.frames[0].name
    assert back.mean.psnr == pytest.approx(result.mean.psnr, abs=1e-3)


def test_evaluation_is_deterministic_and_skipped_if_it_exists(exact_run: RunFolder) -> None:
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


def test_images_are_written_for_the_report(exact_run: RunFolder, balls_capture: Capture) -> None:
    write_image(exact_run.evaluation_images / "00009_photo.png", np.zeros((4, 4, 3), np.uint8))
    evaluate(exact_run.path, max_frames=2, threads=1)
    names = {path.name for path in exact_run.evaluation_images.iterdir()}
    kinds = ("photo", "render", "error", "depth")
    assert names == {f"{index:05d}_{kind}.png" for index in (2, 14) for kind in kinds}
    assert (read_image(exact_run.evaluation_images / "00002_photo.png") == balls_capture.read_image(2)).all()
    error = read_image(exact_run.evaluation_images / "00002_error.png")
    assert error.mean() < 20


def test_the_written_images_are_the_best_median_and_worst(exact_run: RunFolder) -> None:
    frames = evaluate(exact_run.path, threads=1).frames
    best, median, _, worst = by_psnr(frames)
    assert best.metrics.psnr > median.metrics.psnr > worst.metrics.psnr
    assert {frame.index for frame in frames if frame.images} == {best.index, median.index, worst.index}
    for frame in (best, median, worst):
        photo, render = (
            torch.from_numpy(read_image(exact_run.evaluation_images / f"{frame.images}_{kind}.png") / 255.0)
            for kind in ("photo", "render")
        )
        # The saved rendering is rounded by at most half of a level, which bounds the change of the rms error.
        error, rounded = (10.0 ** (-value / 20.0) for value in (frame.metrics.psnr_full, psnr(render, photo)))
        assert rounded == pytest.approx(error, abs=0.5 / 255.0)
        assert rounded < 0.1


def test_the_protocol_is_printed_before_the_table(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(exact_run.path, max_frames=1, threads=1)
    text = capsys.readouterr().out
    assert text.index("Every 4th image was held out") < text.index("PSNR")
    assert "1 of these 4, evenly spaced" in text


def test_a_run_without_held_out_images_has_no_metrics(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write_city(replace(read_city(exact_run.city), test_every=0), exact_run.city)
    result = evaluate(exact_run.path, threads=1)
    assert result.frames == ()
    assert result.mean.psnr is None
    assert read_evaluation(exact_run.evaluation) == result
    output = capsys.readouterr().out
    assert "no image is held out, so there are no metrics; partition with --test-every" in output
    assert "PSNR" not in output


def test_broken_requests_and_files_are_refused(exact_run: RunFolder) -> None:
    with pytest.raises(OptionError, match="--max-frames 0 is out of range"):
        evaluate(exact_run.path, max_frames=0, threads=1)
    exact_run.evaluation.write_text('{"format": "blocknerf.evaluation/3", "protocol": {}}')
    with pytest.raises(RunError, match=r"evaluation.json: protocol.text is missing; add it, or remove the file"):
        evaluate(exact_run.path, threads=1)
    exact_run.evaluation.write_text('{"format": "other"}')
    with pytest.raises(RunError, match=r"'other' is not blocknerf\.evaluation/3"):
        evaluate(exact_run.path, threads=1)


def test_frames_are_evenly_spaced() -> None:
    assert evenly_spaced(list(range(10)), 4) == [0, 3, 6, 9]
    assert evenly_spaced([5], 4) == [5]
    assert evenly_spaced([], 4) == []


def test_rounding_to_8_bits_limits_psnr() -> None:
    """The limit is about 59 dB, so the 45 dB above are nearly exact."""
    values = torch.rand(40, 40, 3, generator=torch.Generator().manual_seed(0))
    assert psnr(torch.from_numpy(to_uint8(values)).float() / 255, values) == pytest.approx(58.9, abs=0.5)


def test_the_evaluation_records_the_fingerprints_of_its_blocks(exact_run: RunFolder) -> None:
    evaluate(exact_run.path, threads=1)
    document = json.loads(exact_run.evaluation.read_text())
    fingerprints = {name: fingerprint(exact_run.field(name)) for name in ("b000", "b001", "b002")}
    assert document["inputs"]["blocks"] == fingerprints


def test_a_retrained_block_is_evaluated_again(
    exact_run: RunFolder, count_renderings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(exact_run.path, threads=1)
    retrain(exact_run, "b001", seed=9)
    count_renderings.clear()
    capsys.readouterr()
    result = evaluate(exact_run.path, threads=1)
    assert len(count_renderings) == 2 * 4 + 3, "each image with fitted and mean codes; three again, to be saved"
    assert result.inputs.blocks["b001"] == fingerprint(exact_run.field("b001"))
    assert "stale: block b001 was retrained since; evaluating again" in capsys.readouterr().out
    count_renderings.clear()
    evaluate(exact_run.path, threads=1)
    assert count_renderings == []
    assert "skipping: " in capsys.readouterr().out


def test_retraining_a_block_during_evaluation_is_detected(
    exact_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = evaluate_job.render_eval_image

    def render_and_retrain(*arguments: Any) -> Any:
        rendering = original(*arguments)
        retrain(exact_run, "b000", seed=9)
        return rendering

    monkeypatch.setattr(evaluate_job, "render_eval_image", render_and_retrain)
    with pytest.raises(RunError, match="block b000 was retrained since, during the evaluation; run the same command"):
        evaluate(exact_run.path, threads=1)
    assert not exact_run.evaluation.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weighting", "nearest"),
        ("power", 1.5),
        ("selection_radius", 2.0),
        ("visibility_threshold", 0.1),
        ("sharp", True),
    ],
)
def test_rendering_settings_are_options_and_recorded(
    key: str, value: object, exact_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(exact_run.path, max_frames=1, threads=1)
    result = evaluate(exact_run.path, max_frames=1, threads=1, **{key: value})
    assert getattr(result.protocol, key) == value
    assert json.loads(exact_run.evaluation.read_text())["protocol"][key] == value
    assert "has another protocol; evaluating again" in capsys.readouterr().out


def test_a_setting_out_of_range_is_refused(exact_run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"^--power 0\.0 is not a positive number"):
        evaluate(exact_run.path, threads=1, power=0.0)
