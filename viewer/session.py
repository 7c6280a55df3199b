"""One visitor: their camera and panel on one side, the painter on the other."""

import numpy as np
import viser

from blocknerf.cameras import Cameras
from blocknerf.errors import BlockNerfError
from blocknerf.images import read_image
from blocknerf.trajectory.trajectory import Trajectory
from viewer.camera_path_panel import CameraPathPanel
from viewer.client_camera import LOOK_AT_DISTANCE, ClientCamera, field_of_view
from viewer.control_panel import Controls
from viewer.latest_call import LatestCall
from viewer.markup import paragraph
from viewer.overlays import SceneOverlays
from viewer.render_jobs import RenderJob, RenderQueue
from viewer.request_renderer import RenderedImage, RenderRequest
from viewer.run_contents import RunContents
from viewer.scheduler import RenderScheduler

QUALITY, DRAFT_QUALITY = 85, 70
"""Of the JPEG of a finished picture, and of one that becomes finer."""
PANEL = 400
"""Pixels across that a photograph in the panel needs."""
UP = (0.0, 0.0, 1.0)
TOP_VIEW_HEIGHT = 2.5
"""How far above a block the view from above stands, in its radii."""


class ClientSession:
    """From the moment a page connects until it is gone."""

    def __init__(
        self,
        client: viser.ClientHandle,
        stock: RunContents,
        painter: RenderScheduler[RenderRequest, RenderedImage],
        studio: RenderQueue,
    ) -> None:
        self._client, self._contents, self._scheduler, self._render_queue = client, stock, painter, studio
        self._ready = False
        self._asking, self._going, self._drawing = (
            LatestCall(self._request_render),
            LatestCall(self.go_to_image),
            LatestCall(self._draw),
        )
        self._controls = Controls(client, stock, self._asking.ask, self._go_to_block)
        self._overlays = SceneOverlays(client, stock, self._going.ask)
        with client.gui.add_folder("Places"):
            self._add_places()
        self._paths = CameraPathPanel(client, self._camera, self._set_camera, self._start_render, stock.redact_paths)
        self._visit = painter.add(self._show, self._show_error)
        self._ready = True
        client.camera.on_update(lambda _: self._asking.ask())
        self._asking.ask()

    def close(self) -> None:
        """The visitor has left."""
        self._scheduler.remove(self._visit)
        self._paths.close()

    def go_to_image(self, photograph: int) -> None:
        """Stand where a photograph was taken, and show it in the panel."""
        self._set_camera(self._contents.image(photograph))
        frame, capture = self._contents.capture.frames[photograph], self._contents.capture
        try:
            downscale = max(1, frame.intrinsics.width // PANEL)
            self._image_box.image = read_image(capture.image_dir / frame.image, downscale, frame.intrinsics.size)
        except BlockNerfError as error:
            self._image_box.visible, self._missing.visible = False, True
            self._missing.content = paragraph(self._contents.redact_paths(error), "No photograph:")
            return
        self._image_box.label = frame.name
        self._image_box.visible, self._missing.visible = True, False

    def _go_to_block(self, name: str) -> None:
        if self._ready:
            self._going.ask(self._contents.image_at_block(name))

    def _add_places(self) -> None:
        gui = self._client.gui
        self._boxes = {kind: gui.add_checkbox(f"Show {kind}", False) for kind in self._overlays.layers}
        for box in self._boxes.values():
            box.on_update(lambda _: self._drawing.ask())
        street, above = gui.add_button("Nearest image"), gui.add_button("Top view")
        street.on_click(lambda _: self._going.ask(self._contents.nearest_image(self._position())))
        above.on_click(lambda _: self._look_down())
        self._image_box = gui.add_image(np.zeros((1, 1, 3), np.uint8), label="photograph", visible=False)
        self._missing = gui.add_html("", visible=False)

    def _draw(self) -> None:
        for kind, box in self._boxes.items():
            self._overlays.show(kind, box.value)
        self._asking.ask()

    def _position(self) -> tuple[float, float, float]:
        """Where the visitor stands, in world units."""
        x, y, z = (float(value) / self._contents.scene_scale for value in self._client.camera.position)
        return x, y, z

    def _set_camera(self, camera: Cameras) -> None:
        here, scale = camera.centers[0], self._contents.scene_scale
        with self._client.atomic():
            # Without the photograph's roll: a page turns around its up direction ever after.
            self._client.camera.up_direction = UP
            self._client.camera.position = (scale * here).numpy()
            self._client.camera.look_at = (scale * (here + LOOK_AT_DISTANCE * camera.camera_to_world[0, :, 2])).numpy()
            self._client.camera.fov = field_of_view(camera)

    def _look_down(self) -> None:
        x, y, _ = self._position()
        block = min(self._contents.city.blocks, key=lambda each: (each.origin[0] - x) ** 2 + (each.origin[1] - y) ** 2)
        above, scale = TOP_VIEW_HEIGHT * block.radius, self._contents.scene_scale
        with self._client.atomic():
            self._client.camera.up_direction = UP
            self._client.camera.position = scale * np.array([x, y - 0.02 * above, block.origin[2] + above])
            self._client.camera.look_at = scale * np.array([x, y, block.origin[2]])

    def _camera(self) -> Cameras | None:
        """The visitor's, as large as a finished picture; None where the page tells nonsense."""
        camera = self._client.camera
        w, x, y, z = (float(value) for value in camera.wxyz)
        size = {"width": int(camera.image_width), "height": int(camera.image_height)}
        stand = ClientCamera(position=self._position(), wxyz=(w, x, y, z), fov=float(camera.fov), **size)
        return stand.camera(self._controls.budget)

    def _start_render(self, film: Trajectory) -> RenderJob:
        return self._render_queue.submit(film, *self._controls.render_options())

    def _request_render(self) -> None:
        view = self._camera() if self._ready else None
        if view is None:
            return
        try:
            self._scheduler.submit(self._visit, self._controls.render_request(view))
        except BlockNerfError as error:
            self._show_error(error)

    def _show(self, picture: RenderedImage, level: float) -> None:
        quality = QUALITY if level == 1.0 else DRAFT_QUALITY
        depth = self._contents.scene_scale * picture.depth if self._overlays.visible else None
        self._client.scene.set_background_image(picture.image, format="jpeg", jpeg_quality=quality, depth=depth)
        self._controls.show_result(picture)

    def _show_error(self, error: Exception) -> None:
        self._controls.show_error(error)
