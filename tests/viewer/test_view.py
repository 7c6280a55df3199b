"""What is refused before a page is served, and films that a page asks for."""

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
from tests.viewer.visitors import wait_for
from viewer import render_jobs
from viewer.render_jobs import RenderJob, RenderQueue, _take_name
from viewer.run_contents import RunContents
from viewer.view import view


def film(stock: RunContents, count: int) -> Trajectory:
    camera = stock.image(stock.path[0])
    poses = camera.camera_to_world.repeat(count, 1, 1)
    poses[:, 0, 3] += torch.arange(count)
    return Trajectory(camera_to_world=poses, focals=torch.full((count,), 20.0), width=32, height=18, fps=8.0)


def test_a_run_without_a_trained_block_is_refused(tmp_path: Path, repository: Path) -> None:
    ingest(repository / "data_samples" / "mini_city", tmp_path / "run")
    partition(tmp_path / "run")
    with pytest.raises(RunError, match="no block is trained; run 'blocknerf train' first"):
        view(tmp_path / "run", port=0, threads=1)


def test_open_doors_are_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "give --token too" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf"])
def test_a_cache_of_no_size_is_refused(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path), "--block-cache-gb", size]) == 2
    assert f"--block-cache-gb {size} is out of range; give a number above 0" in capsys.readouterr().err


def test_the_missing_extra_is_named(
    town_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(["view", str(town_run.path), "--threads", "1"]) == 2
    assert "needs viser; install it with: pip install" in capsys.readouterr().err


def test_films_have_names_of_their_own_and_can_be_cancelled(town_run: RunFolder) -> None:
    stock = RunContents.of(town_run)
    first, second = (RenderJob(town_run, film(stock, count), "--appearance", "noon") for count in (3, 500))
    assert first.name != second.name
    second.cancel()
    assert second.state == "cancelled"
    wait_for(lambda: first.state != "rendering")
    assert (first.state, first.fraction) == ("done", 1.0), first.error
    assert first.video.is_file()
    for each in (first, second):
        each.close()


def test_one_film_is_made_at_a_time(town_run: RunFolder) -> None:
    studio, path = RenderQueue(town_run), film(RunContents.of(town_run), 500)
    first = studio.submit(path)
    with pytest.raises(RunError, match="another film is being rendered"):
        studio.submit(path)
    first.close()
    second = studio.submit(path)
    studio.close()
    assert second.state == "cancelled"


def test_nothing_is_begun_once_the_viewer_stops(town_run: RunFolder) -> None:
    studio, before = RenderQueue(town_run), set(town_run.renders.glob("*"))
    studio.close()
    with pytest.raises(RunError, match="the viewer is being stopped"):
        studio.submit(film(RunContents.of(town_run), 3))
    assert set(town_run.renders.glob("*")) == before


def test_what_visitors_render_is_bounded_and_never_removed(
    town_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = RunFolder(tmp_path), film(RunContents.of(town_run), 100)
    made = []

    class Made(render_jobs.RenderJob):
        state = "done"

        def __init__(self, run: RunFolder, film: Trajectory, *options: str) -> None:
            made.append(_take_name(run))

    monkeypatch.setattr(render_jobs, "RenderJob", Made)
    studio = RenderQueue(run)
    monkeypatch.setattr(render_jobs, "MOST_VIDEOS", 2)
    for name in ("flythrough", "website", "viewer-1", "viewers/viewer-007"):  # none of them a visitor's
        run.render_folder(name).mkdir(parents=True)
    for _ in range(2):
        studio.submit(path)
    with pytest.raises(RunError, match=r"^view: visitors have made 2 videos .*; have some of renders/web\* removed$"):
        studio.submit(path)
    monkeypatch.setattr(render_jobs, "MOST_VIDEOS", 3)
    monkeypatch.setattr(render_jobs, "MOST_BYTES", 3 * 100 * 32 * 18 + 4)
    picture = run.frames_dir("viewer-002") / "00000.png"
    picture.parent.mkdir()
    picture.write_bytes(bytes(5))
    with pytest.raises(RunError, match=r"^view: this video may take 0\.0 GiB, and 0\.0 GiB are left .*; make it short"):
        studio.submit(path)
    picture.write_bytes(bytes(4))
    studio.submit(path)
    assert made == ["viewer-001", "viewer-002", "viewer-003"]
    assert picture.exists()


def test_words_of_a_crash_go_to_the_terminal(town_run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    making = RenderJob(town_run, film(RunContents.of(town_run), 3), "--appearance", "midnight")
    wait_for(lambda: making.state == "failed")
    making._errors.write_text("Traceback\n  File '/srv/app.py'\nValueError: /srv/secret")
    making._process.returncode = 1
    assert making.error == "see the server's terminal"
    assert "ValueError: /srv/secret" in caplog.text
    making.close()


def test_names_are_taken_by_one_film_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: _take_name(RunFolder(tmp_path)), range(40)))
    assert sorted(names) == [f"viewer-{number:03d}" for number in range(1, 41)]


def test_a_film_that_cannot_be_made_says_why(town_run: RunFolder) -> None:
    making = RenderJob(town_run, film(RunContents.of(town_run), 3), "--appearance", "midnight")
    wait_for(lambda: making.state == "failed")
    assert "midnight" in making.error
    making.close()
    assert not town_run.render_folder(making.name).exists()
