"""The report of a run with hostile names or broken files: names are escaped, and broken files are listed."""

import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from pipelines.charts import Series, line_chart, stacked_strip
from pipelines.report import report

SCRIPT = "parent.fallen = 1; fallen = 1"
HOSTILE = f"""'"><script>{SCRIPT}</script><img src=x onerror="{SCRIPT}"><a href="javascript:{SCRIPT}">&lt;#?%2e{{}}|`"""
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "h3", "section", "p", "div", "b"),
    *("span", "figure", "figcaption", "video", "img", "svg", "defs", "g", "path", "text", "use", "ul", "li", "i"),
    *("details", "summary", "table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd"),
}


class Page(HTMLParser):
    """The tags of a page, the addresses in its attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.text = set[str](), list[str](), ""
        self.labels: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster")]
        self.labels += [value or "" for name, value in attrs if name in ("alt", "aria-label")]

    def handle_data(self, data: str) -> None:
        self.text += data


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def copied(finished_run: RunFolder, balls_capture: Any, tmp_path: Path) -> RunFolder:
    """A copy of the finished run and its capture that tests may change. The capture's folder has a hostile name."""
    root = tmp_path / HOSTILE.replace("/", "")
    shutil.copytree(balls_capture.image_dir, root)
    shutil.copytree(finished_run.path, root / "run")
    run = RunFolder(root / "run")
    change(run.capture, image_dir="..")
    return run


@pytest.fixture
def hostile(copied: RunFolder) -> RunFolder:
    capture, scores = json.loads(copied.capture.read_text()), json.loads(copied.evaluation.read_text())
    frames = [frame | {"name": f"{i} {HOSTILE}", "segment": HOSTILE} for i, frame in enumerate(capture["frames"])]
    change(copied.capture, source=HOSTILE, frames=frames)
    change(
        copied.evaluation,
        protocol=scores["protocol"] | {"text": HOSTILE, "lpips": HOSTILE},
        frames=[frame | {"name": HOSTILE, "blocks": {HOSTILE: 1.0}} for frame in scores["frames"]],
        blocks={HOSTILE: next(iter(scores["blocks"].values()))},
    )
    coverage = json.loads(copied.coverage.read_text())["blocks"]
    changed = {"block": HOSTILE, "neighbors": [HOSTILE]}
    change(copied.coverage, warnings=[HOSTILE], blocks=[row | changed for row in coverage])
    change(copied.train_summary("b000"), device=HOSTILE, versions={HOSTILE: HOSTILE})
    copied.appearance_dir.mkdir(exist_ok=True)
    copied.appearance_preset(HOSTILE.replace("/", "")).write_bytes(b"no preset")
    return copied


def test_hostile_names_are_text_everywhere(hostile: RunFolder) -> None:
    page = Page(report(hostile.path).read_text(encoding="utf-8"))
    assert page.tags <= TAGS
    assert all(address.startswith("data:") for address in page.addresses)
    assert page.text.count(HOSTILE) > 20
    assert f"appearance/{HOSTILE.replace('/', '')}.safetensors" not in page.labels
    assert any(HOSTILE in label for label in page.labels), "in attributes too"
    assert f"{HOSTILE.replace('/', '')}: 3 blocks" in page.text, "the folder's name"


def test_a_hostile_report_does_nothing_in_a_browser(hostile: RunFolder, browser: Any) -> None:
    path = report(hostile.path)
    with browser.new_context() as context:
        page, requests = context.new_page(), list[str]()
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.absolute().as_uri())
        assert page.evaluate("typeof fallen") == "undefined"
        assert page.locator("script, iframe, a, img[src='x']").count() == 0
        assert "parent.fallen = 1" in page.inner_text("body")
    assert [url for url in requests[1:] if not url.startswith("data:")] == []


def test_a_folder_with_a_name_that_is_not_utf8_is_reported(copied: RunFolder, tmp_path: Path) -> None:
    root = copied.path.parent.rename(tmp_path / os.fsdecode(b"half \xff a name"))
    assert "half ? a name: 3 blocks" in Page(report(root / "run").read_text(encoding="utf-8")).text


def test_charts_escape_texts() -> None:
    line = Series(name=HOSTILE, color="#000000", x=[0.0, 1.0], y=[1.0, 2.0])
    chart = line_chart([line], x_label=HOSTILE, y_label=HOSTILE)
    page = Page(chart + stacked_strip([{HOSTILE: 1.0}, {HOSTILE: 1.0}], {HOSTILE: "#000000"}))
    assert page.tags <= TAGS
    assert page.text.count(HOSTILE) == 2


def test_a_video_name_is_not_a_path(finished_run: RunFolder) -> None:
    with pytest.raises(RunError, match="--render"):
        report(finished_run.path, render="../../elsewhere")


def test_broken_files_are_listed_and_the_rest_is_shown(copied: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    copied.appearance_dir.mkdir(exist_ok=True)
    copied.appearance_preset("dusk").write_bytes(b"no preset")
    change(copied.capture, sparse_points="points.ply")
    (copied.path.parent / "points.ply").write_bytes(b"ply\nno points")
    copied.train_summary("b001").write_text("no JSON")
    change(copied.train_summary("b002"), seconds="long", frames=-1)
    page = Page(report(copied.path).read_text(encoding="utf-8"))
    output = capsys.readouterr().out
    for start in (
        "appearance/dusk.safetensors: ",
        "points.ply: ",
        "blocks/b001/train.json: ",
        "blocks/b002/train.json: ",
    ):
        assert start in page.text
        assert start.partition(":")[0] in output
    assert str(copied.path) not in page.text
    assert "Ignored files" in page.text
    assert "4 frames of 20x12" in page.text
    assert "1 min 1 s" in page.text, "the time of the block with an intact record"


def test_a_whole_run_has_no_warnings(finished_run: RunFolder) -> None:
    assert "Ignored files" not in report(finished_run.path).read_text(encoding="utf-8")
