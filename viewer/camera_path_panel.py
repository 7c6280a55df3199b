"""Panel section for camera paths: keyframes, preview, files, and the render job."""

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
from blocknerf.similarity import Rows
from blocknerf.trajectory.keyframes import through_keyframes
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.trajectory.trajectory_file import read_trajectory, trajectory_to_json, write_camera_path
from viewer.client_camera import clamp_finite
from viewer.markup import paragraph
from viewer.message_filter import MAX_FILE_BYTES
from viewer.render_jobs import RenderJob
from viewer.scheduler import LatestCall

SIZES = {"320x180": (320, 180), "640x360": (640, 360), "1280x720": (1280, 720)}
PREVIEW_FPS = 10.0
"""Camera updates per second during a preview."""
POLL_INTERVAL = 0.3
"""Seconds between checks of the render job."""
MAX_PREVIEW_SECONDS = 120.0
"""Longest preview, in seconds; longer paths are previewed faster than real time."""
FREE_UPLOAD_AFTER = 1.0
"""Seconds from loading a file to replacing its button, which holds the file's content. By then the page has shown that
the upload is complete."""
MAX_KEYFRAMES = 200
"""Keyframes per client."""
MAX_FRAMES = 14_400
"""Frames per path: ten minutes at 24 fps."""
MAX_VIDEOS = 20
"""Videos that one client may start."""

StartRender = Callable[[Trajectory], RenderJob]
_read_lock = threading.Lock()
"""Only one file is parsed at a time: in memory it takes many times its size."""


class CameraPathPanel:
    """A client's keyframes or loaded camera path, and the videos rendered along it."""

    def __init__(
        self,
        client: viser.ClientHandle,
        get_camera: Callable[[], Cameras | None],
        set_camera: Callable[[Cameras], None],
        start_render: StartRender,
        error_text: Callable[[Exception], str],
        source_to_world: Rows,
    ) -> None:
        """Add the controls to the panel.

        Args:
            client: The client's page.
            get_camera: Returns the client's camera.
            set_camera: Moves the client's camera.
            start_render: Starts a render job.
            error_text: Returns the text of an error that clients may see.
            source_to_world: From the coordinates of nerfstudio camera paths, the capture's source, to the world.
        """
        self._client, self._get_camera, self._set_camera = client, get_camera, set_camera
        self._start_render, self._error_text, self._source_to_world = start_render, error_text, source_to_world
        self._keyframes: list[Cameras] = []
        self._loaded: Trajectory | None = None
        self._job: RenderJob | None = None
        self._gone, self._previews, self._videos = threading.Event(), 0, 0
        preview, save, save_camera_path, cancel = (
            self._latest(action) for action in (self._preview, self._save, self._save_camera_path, self._cancel_job)
        )
        self._load_call, self._free_call = LatestCall(self._load_and_free), LatestCall(self._renew_upload_button)
        self._render_call = self._latest(self._render)
        gui = client.gui
        self._folder = gui.add_folder("Path", expand_by_default=False)
        with self._folder:
            gui.add_button("Add keyframe").on_click(lambda _: self._add())
            gui.add_button("Remove last").on_click(lambda _: self._remove_last())
            self._seconds = gui.add_number("Seconds", 6.0, min=0.5, max=600.0, step=0.5)
            self._rate = gui.add_number("FPS", 24.0, min=1.0, max=60.0, step=1.0)
            self._size = gui.add_dropdown("Size", tuple(SIZES), initial_value="640x360")
            gui.add_button("Preview").on_click(lambda _: self._start_preview(preview))
            gui.add_button("Save trajectory.json").on_click(lambda _: save.submit())
            gui.add_button("Save camera path").on_click(lambda _: save_camera_path.submit())
            self._upload = self._add_upload_button()
            gui.add_button("Render video").on_click(lambda _: self._guarded(self._request_render))
            self._cancel = gui.add_button("Cancel", visible=False)
            self._cancel.on_click(lambda _: cancel.submit())
            self._bar = gui.add_progress_bar(0.0, visible=False)
            self._status = gui.add_html(paragraph("No keyframes yet."))

    def close(self) -> None:
        """Stop the client's render job when they leave. Rendered frames stay on disk."""
        self._gone.set()

    def camera_path(self) -> Trajectory:
        """Return the loaded path, or a path through the keyframes.

        Raises:
            RunError: Fewer than two keyframes, two equal neighbors, or too many frames.
        """
        width, height = SIZES[self._size.value]
        if self._loaded is not None:
            return self._loaded.resized(width, height)
        seconds, rate = clamp_finite(self._seconds.value, 0.5, 600.0), clamp_finite(self._rate.value, 1.0, 60.0)
        frames = _check_num_frames(max(2, round(seconds * rate)))
        poses = [camera.camera_to_world for camera in self._keyframes] or [torch.zeros(0, 3, 4)]
        focals = torch.tensor([float(key.intrinsics[0, 1] / key.height[0]) * height for key in self._keyframes])
        return through_keyframes(torch.cat(poses), focals, frames=frames, width=width, height=height, fps=rate)

    def _add(self) -> None:
        camera = self._get_camera()
        if len(self._keyframes) >= MAX_KEYFRAMES:
            self._show_refusal(f"a path has at most {MAX_KEYFRAMES} keyframes; remove one first.")
        elif camera is not None:
            self._loaded = None
            self._keyframes.append(camera)
            self._show_status()

    def _remove_last(self) -> None:
        self._loaded = None
        self._keyframes = self._keyframes[:-1]
        self._show_status()

    def _show_status(self) -> None:
        count = len(self._keyframes)
        self._status.content = paragraph(f"{count} keyframe{'' if count == 1 else 's'}.")

    def _start_preview(self, preview: LatestCall[[]]) -> None:
        self._previews += 1  # stops the running preview
        preview.submit()

    def _preview(self) -> None:
        number, path = self._previews, self.camera_path()
        cameras = path.cameras
        steps = max(2, round(min(path.seconds, MAX_PREVIEW_SECONDS) * PREVIEW_FPS))
        for step in range(steps):
            if self._gone.wait(1.0 / PREVIEW_FPS) or number != self._previews:
                return
            self._set_camera(cameras[round(step / (steps - 1) * (len(path) - 1))])

    def _save(self) -> None:
        self._client.send_file_download(
            "trajectory.json", trajectory_to_json(self.camera_path()).encode(), save_immediately=True
        )

    def _save_camera_path(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "camera_path.json"
            write_camera_path(self.camera_path(), path, self._source_to_world)
            self._client.send_file_download(path.name, path.read_bytes(), save_immediately=True)

    def _add_upload_button(self, order: float | None = None) -> viser.GuiUploadButtonHandle:
        button = self._client.gui.add_upload_button("Load a path", mime_type="application/json", order=order)
        button.on_upload(lambda event: self._load_call.submit(event.target.value.content))
        return button

    def _load_and_free(self, content: bytes) -> None:
        self._guarded(partial(self._load, content))
        self._free_call.submit()

    def _renew_upload_button(self) -> None:
        if not self._gone.wait(FREE_UPLOAD_AFTER):
            button = self._upload
            with self._folder:
                self._upload = self._add_upload_button(button.order)
            button.remove()

    def _load(self, content: bytes) -> None:
        if not content:
            limit = f"files of up to {MAX_FILE_BYTES >> 20} MiB are loaded, one at a time; this one is larger or empty."
            self._show_refusal(limit, "Not loaded:")
            return
        with _read_lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "path.json"
            path.write_bytes(content)
            loaded = read_trajectory(path, self._source_to_world)
        _check_num_frames(len(loaded))
        self._loaded = loaded
        self._status.content = paragraph(f"Loaded path: {len(self._loaded)} frames, {self._loaded.seconds:.1f} s.")

    def _show_refusal(self, reason: str, head: str = "Not done:") -> None:
        self._status.content = paragraph(reason, head)

    def _request_render(self) -> None:
        if self._render_call.busy:
            raise RunError("view: another video is being rendered; start yours when it is done")
        if self._videos >= MAX_VIDEOS:
            raise RunError(f"view: one visitor may render at most {MAX_VIDEOS} videos; download those that are done")
        self._render_call.submit()

    def _render(self) -> None:
        job = self._job = self._start_render(self.camera_path())
        self._videos += 1
        try:
            self._watch(job)
        finally:
            job.close()

    def _watch(self, job: RenderJob) -> None:
        """Show the progress of a render job, then offer the video for download."""
        self._bar.visible = self._cancel.visible = True
        start = time.monotonic()
        while job.state == "rendering" and not self._gone.wait(POLL_INTERVAL):
            fraction = job.fraction
            self._bar.value = 100.0 * fraction  # type: ignore[misc]
            left = f", {(time.monotonic() - start) * (1.0 / fraction - 1.0):.0f} s left" if fraction > 0.02 else ""
            self._status.content = paragraph(f"Rendering {job.name}{left}.")
        if self._gone.is_set():
            return
        self._bar.visible = self._cancel.visible = False
        if job.state == "done":
            self._status.content = paragraph(f"{job.name} is done.")
            self._client.send_file_download(f"{job.name}.mp4", job.video.read_bytes())
        else:
            reason = f": {job.error}" if job.state == "failed" else ""
            self._status.content = paragraph(self._error_text(RunError(f"{job.name} {job.state}{reason}")))

    def _cancel_job(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _latest(self, action: Callable[[], None]) -> LatestCall[[]]:
        return LatestCall(partial(self._guarded, action))

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BlockNerfError as error:
            self._show_refusal(self._error_text(error))
        except Exception:
            logging.getLogger(__name__).exception("camera path panel")
            self._show_refusal("see the server's terminal.")


def _check_num_frames(frames: int) -> int:
    if frames > MAX_FRAMES:
        raise RunError(f"view: the path has {frames} frames, more than {MAX_FRAMES}; shorten it or lower its FPS")
    return frames
