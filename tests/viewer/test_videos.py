"""A video that a visitor asks for is what their panel shows."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.city import block_scoring
from blocknerf.city.manifest import read_city, with_rendering
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import visibility_falloff
from blocknerf.errors import RunError
from blocknerf.images import read_image
from blocknerf.rendering.image import no_op
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.trajectory.trajectory_file import write_trajectory
from pipelines.cli import main
from tests.viewer.speaking import Speaker, speaker
from tests.viewer.test_session import BETWEEN
from viewer.render_jobs import RenderQueue
from viewer.request_renderer import RenderRequest, RequestRenderer
from viewer.run_contents import UNMATCHED_PREFIX, RunContents
from viewer.scheduler import RenderScheduler
from viewer.view import serve


class Caught:
    """What a page would render: the newest wish for a picture, and the newest video."""

    wish: RenderRequest
    film: Trajectory
    options: tuple[str, ...] = ()


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Caught:
    """Videos are not rendered but kept here, and so are wishes."""
    found, ask = Caught(), RenderScheduler.submit

    def begin(studio: RenderQueue, film: Trajectory, *options: str) -> None:
        found.film, found.options = film, options
        raise RunError("caught")

    def asked(painter: RenderScheduler, visit: Any, wish: RenderRequest) -> None:
        found.wish = wish
        ask(painter, visit, wish)

    monkeypatch.setattr(RenderQueue, "begin", begin)
    monkeypatch.setattr(RenderScheduler, "ask", asked)
    return found


@pytest.fixture
def page(town_run: RunFolder, caught: Caught) -> Iterator[Speaker]:
    """A visitor whose panel begins with other settings than city.json has, and who has set two keyframes."""
    city = with_rendering(read_city(town_run.city), power=1.0, selection_radius=3.0)
    with serve(town_run, city=city) as gate, speaker(gate.port, **BETWEEN) as one:
        one.wait_for_picture()
        one.answers("Add keyframe", True, "1 keyframe.")
        one.stand(**BETWEEN | {"position": (2.0, -1.6, 2.3)})
        one.wait_for_picture()
        one.answers("Add keyframe", True, "2 keyframes.")
        one.set("Seconds", 0.5)
        one.set("FPS", 6.0)
        one.set("Size", "320x180")
        yield one


@pytest.fixture(autouse=True)
def some_visibility(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields that were trained for a moment predict next to none."""
    monkeypatch.setattr(block_scoring, "visibility_falloff", lambda _, threshold: visibility_falloff(0.3, threshold))


def rendered(run: RunFolder, caught: Caught, folder: Path, name: str) -> list[np.ndarray]:
    """The frames that the command makes of the caught options."""
    write_trajectory(caught.film, folder / "trajectory.json")
    path = ["--trajectory", str(folder / "trajectory.json")]
    assert main(["render", str(run.path), "--name", name, *path, *caught.options, "--threads", "1"]) == 0
    return [read_image(run.frames_dir(name) / f"{i:05d}.png") for i in range(len(caught.film))]


def seen(run: RunFolder, caught: Caught, passed: float | None = None) -> Callable[[int], np.ndarray]:
    """What the panel shows from where the video's camera is."""
    gallery = RequestRenderer(CityRenderer(run, city=RunContents.of(run).city))

    def frame(i: int) -> np.ndarray:
        along = i / (len(caught.film) - 1) if passed is None else passed
        return gallery.render(replace(caught.wish, view=caught.film.cameras[i], blend=along), 1.0, no_op).image

    return frame


PANELS: dict[str, dict[str, Any]] = {
    "as it begins": {},
    "power": {"Power": 8.0},
    "threshold": {"Visibility threshold": 0.25},
    "weighting": {"Weighting": "nearest"},
    "most": {"Max blocks": 1},
    "hidden": {"Hide blocks": "b001 --name=other b999"},
    "all hidden": {"Hide blocks": "b000 b001 b002 b003"},
    "exposure": {"Auto exposure": False, "Exposure": 1.0},
    "preset": {"Appearance": "noon"},
    "mix": {"Appearance": "noon", "Blend to": "dusk", "Blend amount": 0.4},
    "segment": {"Appearance": UNMATCHED_PREFIX + "drive1_dusk"},
}


@pytest.mark.parametrize("panel", PANELS)
def test_a_frame_of_a_video_is_what_the_panel_shows(
    panel: str, page: Speaker, caught: Caught, town_run: RunFolder, tmp_path: Path
) -> None:
    for label, value in PANELS[panel].items():
        page.set(label, value)
        page.wait_for_picture()
    page.answers("Render video", True, "caught")
    frames = rendered(town_run, caught, tmp_path, f"panel-{list(PANELS).index(panel)}")
    shown = seen(town_run, caught, caught.wish.blend)
    assert len(frames) == 3
    for i, frame in enumerate(frames):
        assert np.array_equal(frame, shown(i))


def test_light_may_pass_along_the_video(page: Speaker, caught: Caught, town_run: RunFolder, tmp_path: Path) -> None:
    for label, value in {"Appearance": "noon", "Blend to": "dusk", "Blend along the video": True}.items():
        page.set(label, value)
    page.answers("Render video", True, "caught")
    frames, shown = rendered(town_run, caught, tmp_path, "passing"), seen(town_run, caught)
    assert all(np.array_equal(frame, shown(i)) for i, frame in enumerate(frames))


def test_the_panel_begins_with_the_settings_that_were_asked_for(page: Speaker, caught: Caught) -> None:
    page.answers("Render video", True, "caught")
    assert {"--power=1.0", "--selection-radius=3.0"} <= set(caught.options)
    assert (caught.wish.city.power, caught.wish.city.selection_radius) == (1.0, 3.0)
