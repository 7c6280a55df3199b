"""The panel's part for films: keyframes, preview, files, and the rendering job."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import viser

from blocknerf.cameras import Cameras
from blocknerf.errors import BlockNerfError, RunError
from blocknerf.trajectory.keyframes import through_keyframes
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.trajectory.trajectory_file import read_trajectory, trajectory_to_json, write_camera_path
from viewer.client_camera import clamp_finite
from viewer.latest_call import LatestCall
from viewer.markup import paragraph
from viewer.render_jobs import RenderJob
from viewer.upload_limit import MAX_FILE_BYTES, limit_uploads, take_upload

SIZES = {"320x180": (320, 180), "640x360": (640, 360), "1280x720": (1280, 720)}
PREVIEW_RATE = 10.0
"""Views a second of a preview."""
POLL = 0.3
"""Seconds between looks at the rendering job."""
MAX_PREVIEW_SECONDS = 120.0
"""Seconds; a longer path is passed faster."""
MAX_KEYFRAMES = 200
"""Keyframes of a visitor."""
MAX_FRAMES = 14_400
"""Frames of a path: ten minutes at 24 a second."""
MAX_VIDEOS = 20
"""Videos that one visitor may begin."""

Begin = Callable[[Trajectory], RenderJob]
_reading = threading.Lock()
"""Held by who reads a file: as numbers and lists it takes many times its size."""


class CameraPathPanel:
    """Keyframes that a visitor sets, or a path that they load, and the film along it."""

    def __init__(
        self,
        client: viser.ClientHandle,
        here: Callable[[], Cameras | None],
        stand: Callable[[Cameras], None],
        begin: Begin,
        told: Callable[[Exception], str],
    ) -> None:
        """Fill the panel.

        Args:
            client: The visitor's page.
            here: Gives their camera.
            stand: Moves it.
            begin: Starts a rendering job.
            told: What a visitor is told of an error.
        """
        self._client, self._here, self._stand, self._begin, self._told = client, here, stand, begin, told
        self._keyframes: list[Cameras] = []
        self._loaded: Trajectory | None = None
        self._render_queue: RenderJob | None = None
        self._gone, self._previews, self._videos = threading.Event(), 0, 0
        preview, save, save_camera_path, load, cancel = (
            self._latest(each) for each in (self._preview, self._save, self._save_camera_path, self._load, self._stop)
        )
        self._rendering = self._latest(self._render)
        gui = client.gui
        with gui.add_folder("Path", expand_by_default=False):
            gui.add_button("Add keyframe").on_click(lambda _: self._add())
            gui.add_button("Remove last").on_click(lambda _: self._drop())
            self._seconds = gui.add_number("Seconds", 6.0, min=0.5, max=600.0, step=0.5)
            self._rate = gui.add_number("FPS", 24.0, min=1.0, max=60.0, step=1.0)
            self._size = gui.add_dropdown("Size", tuple(SIZES), initial_value="640x360")
            gui.add_button("Preview").on_click(lambda _: self._begin_preview(preview))
            gui.add_button("Save trajectory.json").on_click(lambda _: save.ask())
            gui.add_button("Save camera path").on_click(lambda _: save_camera_path.ask())
            limit_uploads(
                client, lambda: self._refuse(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB.", "Not loaded:")
            )
            self._upload = gui.add_upload_button("Load a path", mime_type="application/json")
            self._upload.on_upload(lambda _: load.ask())
            gui.add_button("Render video").on_click(lambda _: self._guarded(self._start_rendering))
            self._cancel = gui.add_button("Cancel", visible=False)
            self._cancel.on_click(lambda _: cancel.ask())
            self._bar = gui.add_progress_bar(0.0, visible=False)
            self._say = gui.add_html(paragraph("No keyframes yet."))

    def close(self) -> None:
        """The visitor has left: their film is stopped; its pictures stay."""
        self._gone.set()

    def camera_path(self) -> Trajectory:
        """The path that is loaded, or that leads through the keyframes.

        Raises:
            RunError: there are fewer than two keyframes, two neighbors are the same, or it has too many frames.
        """
        width, height = SIZES[self._size.value]
        if self._loaded is not None:
            return self._loaded.resized(width, height)
        seconds, rate = clamp_finite(self._seconds.value, 0.5, 600.0), clamp_finite(self._rate.value, 1.0, 60.0)
        frames = _few_enough(max(2, round(seconds * rate)))
        poses = [camera.camera_to_world for camera in self._keyframes] or [torch.zeros(0, 3, 4)]
        focals = torch.tensor([float(each.intrinsics[0, 1] / each.height[0]) * height for each in self._keyframes])
        return through_keyframes(torch.cat(poses), focals, frames=frames, width=width, height=height, fps=rate)

    def _add(self) -> None:
        camera = self._here()
        if len(self._keyframes) >= MAX_KEYFRAMES:
            self._refuse(f"{MAX_KEYFRAMES} keyframes are the most of a path; remove one first.")
        elif camera is not None:
            self._loaded = None
            self._keyframes.append(camera)
            self._show_status()

    def _drop(self) -> None:
        self._loaded = None
        self._keyframes = self._keyframes[:-1]
        self._show_status()

    def _show_status(self) -> None:
        count = len(self._keyframes)
        self._say.content = paragraph(f"{count} keyframe{'' if count == 1 else 's'}.")

    def _begin_preview(self, preview: LatestCall[[]]) -> None:
        self._previews += 1  # ends the one that is shown
        preview.ask()

    def _preview(self) -> None:
        number, film = self._previews, self.camera_path()
        cameras = film.cameras
        steps = max(2, round(min(film.seconds, MAX_PREVIEW_SECONDS) * PREVIEW_RATE))
        for step in range(steps):
            if self._gone.wait(1.0 / PREVIEW_RATE) or number != self._previews:
                return
            self._stand(cameras[round(step / (steps - 1) * (len(film) - 1))])

    def _save(self) -> None:
        self._client.send_file_download(
            "trajectory.json", trajectory_to_json(self.camera_path()).encode(), save_immediately=True
        )

    def _save_camera_path(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "camera_path.json"
            write_camera_path(self.camera_path(), path)
            self._client.send_file_download(path.name, path.read_bytes(), save_immediately=True)

    def _load(self) -> None:
        content = take_upload(self._upload)
        if content is None:
            return
        with _reading, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "path.json"
            path.write_bytes(content)
            loaded = read_trajectory(path)
        _few_enough(len(loaded))
        self._loaded = loaded
        self._say.content = paragraph(f"A path of {len(self._loaded)} pictures, {self._loaded.seconds:.1f} s.")

    def _refuse(self, why: str, head: str = "Not done:") -> None:
        self._say.content = paragraph(why, head)

    def _start_rendering(self) -> None:
        if self._rendering.busy:
            raise RunError("view: another film is being rendered; begin yours when that is done")
        if self._videos >= MAX_VIDEOS:
            raise RunError(f"view: {MAX_VIDEOS} videos are the most that one visitor may begin; download what is done")
        self._rendering.ask()

    def _render(self) -> None:
        filming = self._render_queue = self._begin(self.camera_path())
        self._videos += 1
        try:
            self._watch(filming)
        finally:
            filming.close()

    def _watch(self, filming: RenderJob) -> None:
        """Tell how far a film is, and hand it over."""
        self._bar.visible = self._cancel.visible = True
        start = time.monotonic()
        while filming.state == "rendering" and not self._gone.wait(POLL):
            share = filming.fraction
            self._bar.value = 100.0 * share  # type: ignore[misc]
            left = f", {(time.monotonic() - start) * (1.0 / share - 1.0):.0f} s left" if share > 0.02 else ""
            self._say.content = paragraph(f"Rendering {filming.name}{left}.")
        if self._gone.is_set():
            return
        self._bar.visible = self._cancel.visible = False
        if filming.state == "done":
            self._say.content = paragraph(f"{filming.name} is done.")
            self._client.send_file_download(f"{filming.name}.mp4", filming.video.read_bytes())
        else:
            why = f": {filming.error}" if filming.state == "failed" else ""
            self._say.content = paragraph(self._told(RunError(f"{filming.name} {filming.state}{why}")))

    def _stop(self) -> None:
        if self._render_queue is not None:
            self._render_queue.cancel()

    def _latest(self, what: Callable[[], None]) -> LatestCall[[]]:
        return LatestCall(partial(self._guarded, what))

    def _guarded(self, what: Callable[[], None]) -> None:
        try:
            what()
        except BlockNerfError as error:
            self._refuse(self._told(error))
        except Exception:
            logging.getLogger(__name__).exception("a visitor's path")
            self._refuse("see the server's terminal.")


def _few_enough(frames: int) -> int:
    if frames > MAX_FRAMES:
        raise RunError(f"view: the path has {frames} frames, more than {MAX_FRAMES}; shorten it, or lower its rate")
    return frames
