"""Errors before the viewer starts, and videos that a page requests."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.trajectory.trajectory import Trajectory
from pipelines.cli import main
from pipelines.ingest import ingest
from pipelines.partition import partition
from tests.viewer.raw_http import wait_for
from viewer import render_jobs
from viewer.render_jobs import RenderJob, RenderQueue, _take_name
from viewer.run_contents import RunContents
from viewer.view import view


def trajectory(contents: RunContents, count: int) -> Trajectory:
    camera = contents.image(contents.path[0])
    poses = camera.camera_to_world.repeat(count, 1, 1)
    poses[:, 0, 3] += torch.arange(count)
    return Trajectory(camera_to_world=poses, focals=torch.full((count,), 20.0), width=32, height=18, fps=8.0)


def test_a_run_without_a_trained_block_raises(tmp_path: Path, repository: Path) -> None:
    ingest(repository / "data_samples" / "mini_city", tmp_path / "run")
    partition(tmp_path / "run")
    with pytest.raises(RunError, match="no block is trained; run 'blocknerf train' first"):
        view(tmp_path / "run", port=0, threads=1)


def test_a_public_address_without_a_token_raises_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "add --token" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf"])
def test_an_invalid_cache_size_raises(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path), "--block-cache-gb", size]) == 2
    assert f"--block-cache-gb {size} is out of range; give a number above 0" in capsys.readouterr().err


def test_the_missing_extra_is_named(
    town_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(["view", str(town_run.path), "--threads", "1"]) == 2
    assert "needs viser; install it with: pip install" in capsys.readouterr().err


def test_videos_have_unique_names_and_can_be_cancelled(town_run: RunFolder) -> None:
    contents = RunContents.of(town_run)
    first, second = (RenderJob(town_run, trajectory(contents, count), "--appearance", "noon") for count in (3, 500))
    assert first.name != second.name
    second.cancel()
    assert second.state == "cancelled"
    wait_for(lambda: first.state != "rendering")
    assert (first.state, first.fraction) == ("done", 1.0), first.error
    assert first.video.is_file()
    for job in (first, second):
        job.close()


def test_one_video_is_rendered_at_a_time(town_run: RunFolder) -> None:
    queue, path = RenderQueue(town_run), trajectory(RunContents.of(town_run), 500)
    first = queue.submit(path)
    with pytest.raises(RunError, match="another video is being rendered"):
        queue.submit(path)
    first.close()
    second = queue.submit(path)
    queue.close()
    assert second.state == "cancelled"


def test_no_video_starts_after_the_viewer_stops(town_run: RunFolder) -> None:
    queue, before = RenderQueue(town_run), set(town_run.renders.glob("*"))
    queue.close()
    with pytest.raises(RunError, match="the viewer is stopping"):
        queue.submit(trajectory(RunContents.of(town_run), 3))
    assert set(town_run.renders.glob("*")) == before


def test_stored_videos_are_limited_and_never_deleted(
    town_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = RunFolder(tmp_path), trajectory(RunContents.of(town_run), 100)
    names = []

    class FinishedJob(render_jobs.RenderJob):
        state = "done"

        def __init__(self, run: RunFolder, trajectory: Trajectory, *options: str) -> None:
            names.append(_take_name(run))

    monkeypatch.setattr(render_jobs, "RenderJob", FinishedJob)
    queue = RenderQueue(run)
    monkeypatch.setattr(render_jobs, "MAX_STORED_VIDEOS", 2)
    for name in ("flythrough", "website", "viewer-1", "viewers/viewer-007"):  # not client videos
        run.render_folder(name).mkdir(parents=True)
    for _ in range(2):
        queue.submit(path)
    with pytest.raises(
        RunError, match=r"^view: visitors have stored 2 videos .*; have some of renders/viewer-\* removed$"
    ):
        queue.submit(path)
    monkeypatch.setattr(render_jobs, "MAX_STORED_VIDEOS", 3)
    monkeypatch.setattr(render_jobs, "MAX_STORED_BYTES", 3 * 100 * 32 * 18 + 4)
    frame = run.frames_dir("viewer-002") / "00000.png"
    frame.parent.mkdir()
    frame.write_bytes(bytes(5))
    with pytest.raises(RunError, match=r"^view: this video may take 0\.0 GiB, but 0\.0 GiB are left .*; make it short"):
        queue.submit(path)
    frame.write_bytes(bytes(4))
    queue.submit(path)
    assert names == ["viewer-001", "viewer-002", "viewer-003"]
    assert frame.exists()


def test_a_failed_video_reports_the_reason_but_a_crash_only_on_the_terminal(
    town_run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    job = RenderJob(town_run, trajectory(RunContents.of(town_run), 3), "--appearance", "midnight")
    wait_for(lambda: job.state == "failed")
    assert "midnight" in job.error
    job._errors.write_text("Traceback\n  File '/srv/app.py'\nValueError: /srv/secret")
    job._process.returncode = 1
    assert job.error == "see the server's terminal"
    assert "ValueError: /srv/secret" in caplog.text
    job.close()
    assert not town_run.render_folder(job.name).exists()


def test_names_are_unique_across_threads(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: _take_name(RunFolder(tmp_path)), range(40)))
    assert sorted(names) == [f"viewer-{number:03d}" for number in range(1, 41)]
