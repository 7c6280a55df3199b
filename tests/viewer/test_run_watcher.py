"""A run in training: the viewer shows previews of blocks, and updates them."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.city.cache import live_block_loader
from blocknerf.city.manifest import read_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import load_field, save_field
from blocknerf.rendering.image import no_op
from pipelines import block_training, parallel
from pipelines import train as train_job
from tests.tiny import shrink_draft
from tests.viewer.raw_http import wait_for
from viewer.block_files import RunWatcher, file_versions
from viewer.request_renderer import RenderRequest, RequestRenderer
from viewer.run_contents import RunContents


@pytest.fixture
def growing(town_run: RunFolder, tmp_path: Path) -> RunFolder:
    """The town's run before training."""
    shutil.copytree(town_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("field.safetensors", "appearance"))
    return RunFolder(tmp_path / "run")


def preview(run: RunFolder, trained: RunFolder, name: str, offset: float = 0.0) -> None:
    field = load_field(trained.field(name))
    with torch.no_grad():
        field.appearance_codes += offset
    run.checkpoint(name).mkdir(exist_ok=True)
    save_field(field, run.preview(name), step=10, city=read_city(run.city).digest)


def test_the_preview_of_a_block_is_shown_and_updated(growing: RunFolder, town_run: RunFolder) -> None:
    contents = RunContents.of(growing, watch=True)
    load = live_block_loader(growing, contents.city)
    renderer = RequestRenderer(CityRenderer(growing, city=contents.city, load=load, allow_missing=True))
    appearance = contents.appearance(contents.appearance_options[0], None, None)
    request = RenderRequest(
        view=contents.image(0).scaled(0.2), appearance=appearance, city=contents.city, weighting="nearest"
    )
    with pytest.raises(RunError, match="no block is trained"):
        renderer.render(request, 1.0, no_op)
    name, images = contents.city.blocks[0].name, []
    for offset in (0.0, 5.0):
        preview(growing, town_run, name, offset)
        renderer.invalidate([name])
        images.append(renderer.render(request, 1.0, no_op).image)
    assert not np.array_equal(*images)
    shutil.copyfile(town_run.field(name), growing.field(name))
    renderer.invalidate([name])
    assert np.array_equal(renderer.render(request, 1.0, no_op).image, images[0]), "the finished field, not the preview"


def test_each_change_is_reported_once(growing: RunFolder, town_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viewer.block_files.POLL_INTERVAL", 0.02)
    reported: list[list[str]] = []
    city = read_city(growing.city)
    watcher = RunWatcher(growing, city, lambda names: reported.append(list(names)))
    first, second = (block.name for block in city.blocks[:2])
    preview(growing, town_run, first)
    wait_for(lambda: reported == [[first]])
    shutil.copyfile(town_run.field(second), growing.field(second))
    wait_for(lambda: {name for names in reported[1:] for name in names} == {second})
    shutil.copyfile(town_run.field(first), growing.field(first))
    shutil.rmtree(growing.checkpoint(first))
    wait_for(lambda: reported[-1] == [first])
    before = len(reported)
    time.sleep(0.2)
    assert len(reported) == before
    watcher.close()
    assert set(file_versions(growing, city)) == {first, second}


def test_the_viewer_ends_with_a_killed_job(town_run: RunFolder, repository: Path) -> None:
    script = "import sys, time; from pathlib import Path; from pipelines.parallel import live_viewer\n"
    script += "with live_viewer(Path(sys.argv[1]), True): time.sleep(60)"
    job = subprocess.Popen(
        [sys.executable, "-c", script, str(town_run.path)], cwd=repository, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    port = int(job.stdout.readline().rstrip("/\n").rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port)).close()
    job.kill()
    job.communicate()

    def is_closed() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_for(is_closed)


def test_training_writes_previews_only_with_a_viewer(growing: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_draft(monkeypatch.setattr)
    monkeypatch.setattr(block_training, "PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr(parallel, "subprocess", None)
    requested = []

    def record_viewer(run: Path, wanted: bool) -> object:
        requested.append(wanted)
        return parallel.live_viewer(run, False)

    save = block_training.save_field
    paths: list[Path] = []

    def record_path(field: object, path: Path, **facts: object) -> None:
        paths.append(path)
        save(field, path, **facts)

    monkeypatch.setattr(train_job, "live_viewer", record_viewer)
    monkeypatch.setattr(block_training, "save_field", record_path)
    for name, view in (("b000", True), ("b001", False)):
        train_job.train(growing.path, block=name, steps=4, downscale=4, threads=1, view=view)
    assert requested == [True, False]
    assert paths == [growing.preview("b000")] * 4 + [growing.field("b000"), growing.field("b001")]
    assert not growing.checkpoint("b000").exists()


def test_the_viewer_runs_alongside_the_job_and_ends_with_it(
    town_run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    popen = parallel.subprocess.Popen
    monkeypatch.setattr(parallel.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with parallel.live_viewer(town_run.path, True):
        assert "http://127.0.0.1:" in capsys.readouterr().out
        assert started[0].poll() is None
    assert started[0].poll() is not None


def test_a_viewer_that_does_not_start_is_an_error(town_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = parallel.subprocess.Popen
    monkeypatch.setattr(parallel.subprocess, "Popen", lambda _, **k: popen([sys.executable, "-c", ""], **k))
    with pytest.raises(RunError, match="the viewer did not start"), parallel.live_viewer(town_run.path, True):
        pass
