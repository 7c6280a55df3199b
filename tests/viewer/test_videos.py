"""A video that a client requests shows what its panel shows."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.city import selection
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
from tests.viewer.test_session import BETWEEN
from tests.viewer.websocket_client import PageClient, open_client
from viewer.auth_proxy import AuthProxy
from viewer.render_jobs import RenderQueue
from viewer.request_renderer import RenderRequest, RequestRenderer
from viewer.run_contents import UNMATCHED_PREFIX, RunContents
from viewer.scheduler import RenderScheduler
from viewer.view import serve


class Captured:
    """What a page requests: its newest rendering and its newest video."""

    request: RenderRequest
    trajectory: Trajectory
    options: tuple[str, ...] = ()


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Captured:
    """Record requests, and raise instead of rendering videos."""
    captured, submit = Captured(), RenderScheduler.submit

    def submit_video(queue: RenderQueue, trajectory: Trajectory, *options: str) -> None:
        captured.trajectory, captured.options = trajectory, options
        raise RunError("captured")

    def submit_request(scheduler: RenderScheduler, client: Any, request: RenderRequest) -> None:
        captured.request = request
        submit(scheduler, client, request)

    monkeypatch.setattr(RenderQueue, "submit", submit_video)
    monkeypatch.setattr(RenderScheduler, "submit", submit_request)
    return captured


@pytest.fixture(scope="module")
def viewer(town_run: RunFolder) -> Iterator[AuthProxy]:
    """The viewer of the town, with initial settings that differ from city.json."""
    with serve(town_run, city=with_rendering(read_city(town_run.city), power=1.0, selection_radius=3.0)) as served:
        yield served


@pytest.fixture
def page(viewer: AuthProxy, captured: Captured) -> Iterator[PageClient]:
    """A client with two keyframes."""
    with open_client(viewer.port, **BETWEEN) as client:
        client.wait_for_rendering()
        client.set_and_wait("Add keyframe", True, "1 keyframe.")
        client.set_camera(**BETWEEN | {"position": (2.0, -1.6, 2.3)})
        client.wait_for_rendering()
        client.set_and_wait("Add keyframe", True, "2 keyframes.")
        client.set("Seconds", 0.5)
        client.set("FPS", 6.0)
        client.set("Size", "320x180")
        yield client


@pytest.fixture(autouse=True)
def some_visibility(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the visibility that the briefly trained fields predict."""
    monkeypatch.setattr(selection, "visibility_falloff", lambda _, threshold: visibility_falloff(0.3, threshold))


def command_frames(run: RunFolder, captured: Captured, folder: Path, name: str) -> list[np.ndarray]:
    """Return the frames that `blocknerf render` renders with the captured options."""
    write_trajectory(captured.trajectory, folder / "trajectory.json")
    path = ["--trajectory", str(folder / "trajectory.json")]
    assert main(["render", str(run.path), "--name", name, *path, *captured.options, "--threads", "1"]) == 0
    return [read_image(run.frames_dir(name) / f"{i:05d}.png") for i in range(len(captured.trajectory))]


def panel_frame(run: RunFolder, captured: Captured, blend: float | None = None) -> Callable[[int], np.ndarray]:
    """Return a function that renders the panel's settings from the camera of a frame."""
    renderer = RequestRenderer(CityRenderer(run, city=RunContents.of(run).city))

    def frame(i: int) -> np.ndarray:
        amount = i / (len(captured.trajectory) - 1) if blend is None else blend
        return renderer.render(
            replace(captured.request, view=captured.trajectory.cameras[i], blend=amount), 1.0, no_op
        ).image

    return frame


PANELS: dict[str, dict[str, Any]] = {
    "initial": {},
    "power and exposure": {"Power": 8.0, "Auto exposure": False, "Exposure": 1.0},
    "threshold and mix": {"Visibility threshold": 0.25, "Appearance": "noon", "Blend to": "dusk", "Blend amount": 0.4},
    "weighting and segment": {"Weighting": "nearest", "Appearance": UNMATCHED_PREFIX + "drive1_dusk"},
    "max blocks": {"Max blocks": 1},
    "hidden and preset": {"Hide blocks": "b001 --name=other b999", "Appearance": "noon"},
    "all hidden": {"Hide blocks": "b000 b001 b002 b003"},
}
"""Settings of the panel, where independent ones share a video."""


@pytest.mark.parametrize("panel", PANELS)
def test_a_frame_of_a_video_is_what_the_panel_shows(
    panel: str, page: PageClient, captured: Captured, town_run: RunFolder, tmp_path: Path
) -> None:
    for label, value in PANELS[panel].items():
        page.set(label, value)
        page.wait_for_rendering()
    page.set_and_wait("Render video", True, "captured")
    frames = command_frames(town_run, captured, tmp_path, f"panel-{list(PANELS).index(panel)}")
    expected = panel_frame(town_run, captured, captured.request.blend)
    assert len(frames) == 3
    for i, frame in enumerate(frames):
        assert np.array_equal(frame, expected(i))


def test_the_appearance_can_blend_along_the_video(
    page: PageClient, captured: Captured, town_run: RunFolder, tmp_path: Path
) -> None:
    for label, value in {"Appearance": "noon", "Blend to": "dusk", "Blend along the video": True}.items():
        page.set(label, value)
    page.set_and_wait("Render video", True, "captured")
    frames = command_frames(town_run, captured, tmp_path, "blend")
    expected = panel_frame(town_run, captured)
    assert all(np.array_equal(frame, expected(i)) for i, frame in enumerate(frames))


def test_the_panel_starts_with_the_requested_settings(page: PageClient, captured: Captured) -> None:
    page.set_and_wait("Render video", True, "captured")
    assert {"--power=1.0", "--selection-radius=3.0"} <= set(captured.options)
    assert (captured.request.city.power, captured.request.city.selection_radius) == (1.0, 3.0)


def test_videos_of_a_sharp_viewer_are_sharp(town_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    used, start = [], RenderQueue.__init__

    def record_options(queue: RenderQueue, run: RunFolder, *options: str) -> None:
        used.append("--sharp" in options)
        start(queue, run, *options)

    monkeypatch.setattr(RenderQueue, "__init__", record_options)
    for sharp in (False, True):
        with serve(town_run, sharp=sharp):
            pass
    assert used == [False, True]
