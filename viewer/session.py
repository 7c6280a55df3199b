"""One client's session: connects its camera and panel to the render scheduler."""

import numpy as np
import viser

from blocknerf.cameras import Cameras
from blocknerf.errors import BlockNerfError
from blocknerf.images import read_image
from blocknerf.trajectory.trajectory import Trajectory
from viewer.camera_path_panel import CameraPathPanel
from viewer.client_camera import LOOK_AT_DISTANCE, ClientCamera, field_of_view
from viewer.control_panel import ControlPanel
from viewer.markup import paragraph
from viewer.overlays import SceneOverlays
from viewer.render_jobs import RenderJob, RenderQueue
from viewer.request_renderer import RenderedImage, RenderRequest
from viewer.run_contents import RunContents
from viewer.scheduler import LatestCall, RenderScheduler

QUALITY, DRAFT_QUALITY = 85, 70
"""JPEG quality of a full-resolution rendering, and of a coarser one."""
IMAGE_WIDTH = 400
"""Width of a captured image in the panel, in pixels."""
UP = (0.0, 0.0, 1.0)
TOP_VIEW_HEIGHT = 2.5
"""Height of the top view above a block, in block radii."""


class ClientSession:
    """A client's session, from connecting to leaving."""

    def __init__(
        self,
        client: viser.ClientHandle,
        contents: RunContents,
        scheduler: RenderScheduler[RenderRequest, RenderedImage],
        render_queue: RenderQueue,
    ) -> None:
        self._client, self._contents, self._scheduler, self._render_queue = client, contents, scheduler, render_queue
        self._ready = False
        self._render_call, self._go_call, self._overlay_call = (
            LatestCall(self._request_render),
            LatestCall(self.go_to_image),
            LatestCall(self._update_overlays),
        )
        self._controls = ControlPanel(client, contents, self._render_call.submit, self._go_to_block)
        self._overlays = SceneOverlays(client, contents, self._go_call.submit)
        with client.gui.add_folder("Places"):
            self._add_places()
        self._paths = CameraPathPanel(
            client,
            self._camera,
            self._set_camera,
            self._start_render,
            contents.redact_paths,
            contents.capture.source_to_world,
        )
        self._state = scheduler.add(self._show, self._show_error)
        self._ready = True
        client.camera.on_update(lambda _: self._render_call.submit())
        self._render_call.submit()

    def close(self) -> None:
        """End the session after the client left."""
        self._scheduler.remove(self._state)
        self._paths.close()

    def go_to_image(self, index: int) -> None:
        """Move the camera to an image's pose, and show the image in the panel."""
        self._set_camera(self._contents.image(index))
        frame, capture = self._contents.capture.frames[index], self._contents.capture
        try:
            downscale = max(1, frame.intrinsics.width // IMAGE_WIDTH)
            self._image_box.image = read_image(capture.image_dir / frame.image, downscale, frame.intrinsics.size)
        except BlockNerfError as error:
            self._image_box.visible, self._missing.visible = False, True
            self._missing.content = paragraph(self._contents.redact_paths(error), "No image:")
            return
        self._image_box.label = frame.name
        self._image_box.visible, self._missing.visible = True, False

    def _go_to_block(self, name: str) -> None:
        if self._ready:
            self._go_call.submit(self._contents.image_at_block(name))

    def _add_places(self) -> None:
        gui = self._client.gui
        self._boxes = {layer: gui.add_checkbox(f"Show {layer}", False) for layer in self._overlays.layers}
        for box in self._boxes.values():
            box.on_update(lambda _: self._overlay_call.submit())
        nearest, top_view = gui.add_button("Nearest image"), gui.add_button("Top view")
        nearest.on_click(lambda _: self._go_call.submit(self._contents.nearest_image(self._position())))
        top_view.on_click(lambda _: self._set_top_view())
        self._image_box = gui.add_image(np.zeros((1, 1, 3), np.uint8), label="image", visible=False)
        self._missing = gui.add_html("", visible=False)

    def _update_overlays(self) -> None:
        for layer, box in self._boxes.items():
            self._overlays.show(layer, box.value, self._position())
        self._render_call.submit()

    def _position(self) -> tuple[float, float, float]:
        """Position of the client's camera, in world units."""
        x, y, z = (float(value) / self._contents.scene_scale for value in self._client.camera.position)
        return x, y, z

    def _set_camera(self, camera: Cameras) -> None:
        center, scale = camera.centers[0], self._contents.scene_scale
        with self._client.atomic():
            # Drop the image's roll: the page would keep orbiting around a tilted up direction.
            self._client.camera.up_direction = UP
            self._client.camera.position = (scale * center).numpy()
            look_at = center + LOOK_AT_DISTANCE * camera.camera_to_world[0, :, 2]
            self._client.camera.look_at = (scale * look_at).numpy()
            self._client.camera.fov = field_of_view(camera)

    def _set_top_view(self) -> None:
        x, y, _ = self._position()
        block = self._contents.city.blocks[self._contents.city.nearest(x, y, 1)[0]]
        height, scale = TOP_VIEW_HEIGHT * block.radius, self._contents.scene_scale
        with self._client.atomic():
            self._client.camera.up_direction = UP
            self._client.camera.position = scale * np.array([x, y - 0.02 * height, block.origin[2] + height])
            self._client.camera.look_at = scale * np.array([x, y, block.origin[2]])

    def _camera(self) -> Cameras | None:
        """The client's camera at full resolution; None if the page's values are invalid."""
        camera = self._client.camera
        w, x, y, z = (float(value) for value in camera.wxyz)
        size = {"width": int(camera.image_width), "height": int(camera.image_height)}
        client_camera = ClientCamera(position=self._position(), wxyz=(w, x, y, z), fov=float(camera.fov), **size)
        return client_camera.camera(self._controls.resolution)

    def _start_render(self, trajectory: Trajectory) -> RenderJob:
        return self._render_queue.submit(trajectory, *self._controls.render_options())

    def _request_render(self) -> None:
        view = self._camera() if self._ready else None
        if view is None:
            return
        self._overlays.follow(self._position())
        try:
            self._scheduler.submit(self._state, self._controls.render_request(view))
        except BlockNerfError as error:
            self._show_error(error)

    def _show(self, rendering: RenderedImage, scale: float) -> None:
        quality = QUALITY if scale == 1.0 else DRAFT_QUALITY
        depth = self._contents.scene_scale * rendering.depth if self._overlays.visible else None
        self._client.scene.set_background_image(rendering.image, format="jpeg", jpeg_quality=quality, depth=depth)
        self._controls.show_result(rendering)

    def _show_error(self, error: Exception) -> None:
        self._controls.show_error(error)
