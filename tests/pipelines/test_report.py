"""The report is one self-contained page."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from pipelines.charts import MAX_POINTS, Series, downsample, line_chart, smooth, stacked_strip
from pipelines.report import report
from pipelines.training_log import log_digest
from tests.pipelines.conftest import retrain


class _Reader(HTMLParser):
    """Collects text, open tags and every address of a page."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "poster", "data", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(path: Path) -> _Reader:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_the_page_is_complete_and_self_contained(finished_run: RunFolder) -> None:
    page = _read(report(finished_run.path))
    assert page.counts["video"] == 2
    assert page.counts["img"] == 1 + 2 * 4
    assert finished_run.report.read_text(encoding="utf-8").count('id="smoothed"') == 2 * 3
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert "script" not in page.counts
    assert "link" not in page.counts
    text = finished_run.report.read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text


def test_the_page_shows_the_metrics_of_the_run(finished_run: RunFolder) -> None:
    page = _read(report(finished_run.path))
    scores = json.loads(finished_run.evaluation.read_text())
    assert f"{scores['mean']['psnr']:.2f}" in page.text
    assert scores["protocol"]["text"] in page.text
    assert all(frame["name"] in page.text for frame in scores["frames"])
    assert "4 frames of 20x12 at 24 fps" in page.text
    assert "b002" in page.text
    assert "1,000" in page.text  # The last step of the training log.


def test_text_of_the_capture_is_escaped(finished_run: RunFolder) -> None:
    text = report(finished_run.path).read_text(encoding="utf-8")
    assert "a row of balls &lt;script&gt;" in text
    assert "<script" not in text


def test_the_page_is_deterministic(finished_run: RunFolder) -> None:
    first = report(finished_run.path).read_bytes()
    assert report(finished_run.path).read_bytes() == first


def test_missing_parts_are_listed_with_their_commands(exact_run: RunFolder) -> None:
    page = _read(report(exact_run.path))
    for command in ("blocknerf render", "blocknerf evaluate", "blocknerf train"):
        assert command in page.text
    assert "img" not in page.counts


def test_a_run_without_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"capture\.json"):
        report(tmp_path)


def test_a_broken_log_is_refused(exact_run: RunFolder) -> None:
    exact_run.log("b000").write_text('{"step": 1}\n')
    with pytest.raises(RunError, match=r"log\.jsonl: line\[1\]\.loss is missing; add it, or restore the file"):
        report(exact_run.path)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_changed_log_is_refused(exact_run: RunFolder, damage: str) -> None:
    log, record = exact_run.log("b000"), exact_run.train_summary("b000")
    line = '{"step": 5, "loss": 0.1, "psnr": 15.0, "rays_per_second": 1.0, "seconds": 2.0}\n'
    log.write_text(2 * line)
    document = json.loads(record.read_text()) | {"log_sha256": log_digest(log), "block": "b000"}
    record.write_text(json.dumps(document))
    report(exact_run.path)
    log.write_text(line if damage == "cut" else 2 * line.replace("15.0", "95.0"))
    with pytest.raises(RunError, match=r"log\.jsonl: damaged: its content differs from what training wrote"):
        report(exact_run.path)


def test_a_damaged_line_between_others_is_refused(exact_run: RunFolder) -> None:
    line = '{"step": 5, "loss": 0.1, "psnr": 15.0, "rays_per_second": 1.0, "seconds": 2.0}\n'
    exact_run.log("b000").write_bytes(line.encode() + b"\xff\x00\n" + line.encode())
    with pytest.raises(RunError, match=r"log\.jsonl: line 2 is damaged; remove the line"):
        report(exact_run.path)


def test_the_record_of_another_block_is_ignored(exact_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    path = exact_run.train_summary("b000")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block": "b001"}))
    report(exact_run.path)
    assert "b000/train.json: block is 'b001', another block; restore the file" in capsys.readouterr().out


def outlines(chart: str, kind: str) -> list[np.ndarray]:
    """Return the corners of each line or area of a kind, in points from the upper left corner."""
    paths = re.findall(rf'<g id="{kind}">\s*<path d="([^"]*)"', chart)
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float) for path in paths]


def test_lines_stay_within_their_chart() -> None:
    line = Series(name="a", color="#123456", x=list(range(1000)), y=[0.5**i + 1e-6 for i in range(1000)])
    chart = line_chart([line], x_label="step", y_label="loss & $x^2$", log=True)
    (points,) = outlines(chart, "smoothed")
    assert len(points) > 10
    assert (points >= 0).all()
    width, height = (float(size) for size in re.findall(r'viewBox="0 0 (\S+) (\S+)"', chart)[0])
    assert (points <= [width, height]).all()
    assert (np.diff(points[:, 0]) >= 0).all()
    assert "#123456" in chart
    assert "loss &amp; $x^2$" in chart
    assert not re.search(r"https?://|url\(|xmlns|<\?xml", chart)
    assert chart == line_chart([line], x_label="step", y_label="loss & $x^2$", log=True)


@pytest.mark.parametrize("log", [False, True])
def test_a_chart_of_one_value_or_none_is_drawn_or_left_out(log: bool) -> None:
    flat = Series(name="a", color="#000000", x=[0.0], y=[3.0])
    assert 'id="smoothed"' in line_chart([flat], x_label="x", y_label="y", log=log)
    empty = Series(name="a", color="#000000", x=[1.0, 2.0], y=[float("nan"), -1.0 if log else float("inf")])
    assert line_chart([empty], x_label="x", y_label="y", log=log) == ""
    assert line_chart([empty, flat], x_label="x", y_label="y", log=log) != ""
    assert downsample(empty, positive=log).x == []


def test_a_long_line_is_averaged_in_groups() -> None:
    line = downsample(Series(name="a", color="#000000", x=list(range(1000)), y=[2.0 * i for i in range(1000)]))
    assert len(line.x) == MAX_POINTS
    assert np.allclose(np.multiply(2.0, line.x), line.y)


def test_noise_is_smoothed_and_a_constant_is_kept() -> None:
    noise = np.random.default_rng(0).normal(5.0, 1.0, MAX_POINTS).tolist()
    assert smooth(noise).std() < 0.4 * np.std(noise)
    assert abs(smooth(noise).mean() - 5.0) < 0.3
    assert np.allclose(smooth([7.0] * 50), 7.0), "the ends, too"
    assert len(smooth([1.0])) == 1


def test_the_strip_is_full_everywhere() -> None:
    rows = [{"a": 1.0}, {"a": 0.25, "b": 0.75}, {"b": 1.0}]
    strip = stacked_strip(rows, {"a": "#ff0000", "b": "#0000ff", "unused": "#00ff00"})
    assert "#00ff00" not in strip
    bottom, top = outlines(strip, "weight")
    height = bottom[:, 1].max()
    borders = [{x: y for x, y in outline if 0 < y < height} for outline in (bottom, top)]
    assert list(borders[0].values()) == pytest.approx([0.75 * height])
    assert borders[0] == borders[1], "where one ends, the next begins"
    assert (bottom[:, 1].min(), top[:, 1].min(), top[:, 1].max()) == (0.0, 0.0, height)
    assert stacked_strip(rows[:1], {"a": "#ff0000"}) == ""


def test_best_median_and_worst_images_are_shown(copied_run: RunFolder) -> None:
    document = json.loads(copied_run.evaluation.read_text())
    first, second = document["frames"]
    numbered = [first | {"name": f"{i}.png", "psnr": float(i), "images": None} for i in range(5)]
    for i, source in ((4, first), (2, second), (0, first)):
        numbered[i]["images"] = source["images"]
    copied_run.evaluation.write_text(json.dumps(document | {"frames": numbered[2:] + numbered[:2]}))
    text = report(copied_run.path).read_text(encoding="utf-8")
    titles = ["Best of 5 images: 4.png", "Median of 5 images: 2.png", "Worst of 5 images: 0.png"]
    assert re.findall(r"<h3>(.*?)</h3>", text) == titles


def test_the_best_and_worst_image_of_each_protocol_are_marked(copied_run: RunFolder) -> None:
    document = json.loads(copied_run.evaluation.read_text())
    first, *_ = document["frames"]
    values = {"psnr": (21.0, 23.0, 22.0), "whole_psnr": (19.0, 18.0, 17.0)}
    document["frames"] = [
        first | {"name": f"{i}.png", "index": i} | {key: value[i] for key, value in values.items()} for i in range(3)
    ]
    copied_run.evaluation.write_text(json.dumps(document))
    text = report(copied_run.path).read_text(encoding="utf-8")
    rows = re.findall(r"<td>(\d)\.png</td><td>(\w+)</td><td>([\d.]+)</td>", text)
    assert rows == [
        ("0", "worst", "21.00"), ("1", "best", "23.00"), ("2", "median", "22.00"),
        ("0", "best", "19.00"), ("1", "median", "18.00"), ("2", "worst", "17.00"),
    ]  # fmt: skip


@pytest.mark.parametrize("lpips", [None, 0.25])
def test_columns_without_values_are_left_out(lpips: float | None, copied_run: RunFolder) -> None:
    document = json.loads(copied_run.evaluation.read_text())
    document["mean"] |= {"lpips": lpips}
    copied_run.evaluation.write_text(json.dumps(document))
    text = report(copied_run.path).read_text(encoding="utf-8")
    assert text.count(">LPIPS</th>") == (0 if lpips is None else 3)
    assert ("<b>0.250</b>" in text) == (lpips is not None)


@pytest.fixture
def copied_run(finished_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the finished run that tests may change."""
    shutil.copytree(finished_run.path, tmp_path / "run")
    write_capture(read_capture(finished_run.capture), tmp_path / "run" / "capture.json")
    return RunFolder(tmp_path / "run")


def test_metrics_and_videos_of_a_retrained_block_are_stale(copied_run: RunFolder, capsys: Any) -> None:
    psnr = f"{json.loads(copied_run.evaluation.read_text())['mean']['psnr']:.2f}"
    card = f"<b>{psnr}</b>"
    assert card in report(copied_run.path).read_text()
    retrain(copied_run, "b001", seed=9)
    text = report(copied_run.path).read_text()
    assert card not in text
    assert text.count("Stale: block b001 was retrained since. Run: blocknerf evaluate") == 2
    assert text.count("Stale: block b001 was retrained since. Run: blocknerf render --name flythrough") == 1
    output = capsys.readouterr().out
    assert "evaluation.json: stale: block b001 was retrained since" in output
    assert "flythrough: stale: block b001 was retrained since" in output


def test_an_unchanged_run_is_not_stale(copied_run: RunFolder, capsys: Any) -> None:
    assert "Stale" not in report(copied_run.path).read_text()
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize("layer", ["frames", "depth"])
def test_a_damaged_video_is_reported_and_not_shown(layer: str, copied_run: RunFolder, capsys: Any) -> None:
    path = copied_run.video("flythrough", layer)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    page = _read(report(copied_run.path))
    assert page.counts["video"] == 1
    assert f"{path.name} is damaged: it has" in page.text
    assert "run 'blocknerf render --name flythrough' to write it again from its frames" in capsys.readouterr().out


def test_an_untrained_block_makes_its_metrics_stale(copied_run: RunFolder) -> None:
    copied_run.field("b002").unlink()
    assert "Stale: block b002 is no longer trained." in _read(report(copied_run.path)).text
