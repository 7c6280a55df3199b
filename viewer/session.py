"""One visitor: their camera and panel on one side, the painter on the other."""

import numpy as np
import viser

from blocknerf.cameras import Cameras
from blocknerf.errors import BlockNerfError
from blocknerf.images import read_image
from blocknerf.trajectory.trajectory import Trajectory
from viewer.controls import Controls
from viewer.filming import Filming, Studio
from viewer.latest_call import LatestCall
from viewer.markup import paragraph
from viewer.painter import Painter
from viewer.paths import Paths
from viewer.pictures import Picture, Wish
from viewer.scene import Scene
from viewer.stock import Stock
from viewer.views import AHEAD, Stand, field_of_view

QUALITY, DRAFT_QUALITY = 85, 70
"""Of the JPEG of a finished picture, and of one that becomes finer."""
PANEL = 400
"""Pixels across that a photograph in the panel needs."""
UP = (0.0, 0.0, 1.0)
ABOVE = 2.5
"""How far above a block the view from above stands, in its radii."""


class Session:
    """From the moment a page connects until it is gone."""

    def __init__(
        self, client: viser.ClientHandle, stock: Stock, painter: Painter[Wish, Picture], studio: Studio
    ) -> None:
        self._client, self._stock, self._painter, self._studio = client, stock, painter, studio
        self._ready = False
        self._asking, self._going, self._drawing = LatestCall(self._ask), LatestCall(self.go_to), LatestCall(self._draw)
        self._controls = Controls(client, stock, self._asking.ask, self._go_to_block)
        self._scene = Scene(client, stock, self._going.ask)
        with client.gui.add_folder("Places"):
            self._add_places()
        self._paths = Paths(client, self._camera, self._stand, self._begin_film, stock.told)
        self._visit = painter.add(self._show, self._complain)
        self._ready = True
        client.camera.on_update(lambda _: self._asking.ask())
        self._asking.ask()

    def close(self) -> None:
        """The visitor has left."""
        self._painter.remove(self._visit)
        self._paths.close()

    def go_to(self, photograph: int) -> None:
        """Stand where a photograph was taken, and show it in the panel."""
        self._stand(self._stock.photograph(photograph))
        frame, capture = self._stock.capture.frames[photograph], self._stock.capture
        try:
            downscale = max(1, frame.intrinsics.width // PANEL)
            self._photograph.image = read_image(capture.root / frame.image, downscale, frame.intrinsics.size)
        except BlockNerfError as error:
            self._photograph.visible, self._missing.visible = False, True
            self._missing.content = paragraph(self._stock.told(error), "No photograph:")
            return
        self._photograph.label = frame.name
        self._photograph.visible, self._missing.visible = True, False

    def _go_to_block(self, name: str) -> None:
        if self._ready:
            self._going.ask(self._stock.entrance(name))

    def _add_places(self) -> None:
        gui = self._client.gui
        self._boxes = {kind: gui.add_checkbox(f"Show {kind}", False) for kind in self._scene.kinds}
        for box in self._boxes.values():
            box.on_update(lambda _: self._drawing.ask())
        street, above = gui.add_button("To the street"), gui.add_button("From above")
        street.on_click(lambda _: self._going.ask(self._stock.nearest_photograph(self._position())))
        above.on_click(lambda _: self._look_down())
        self._photograph = gui.add_image(np.zeros((1, 1, 3), np.uint8), label="photograph", visible=False)
        self._missing = gui.add_html("", visible=False)

    def _draw(self) -> None:
        for kind, box in self._boxes.items():
            self._scene.show(kind, box.value)
        self._asking.ask()

    def _position(self) -> tuple[float, float, float]:
        """Where the visitor stands, in world units."""
        x, y, z = (float(value) / self._stock.scale for value in self._client.camera.position)
        return x, y, z

    def _stand(self, camera: Cameras) -> None:
        here, scale = camera.centers[0], self._stock.scale
        with self._client.atomic():
            # Without the photograph's roll: a page turns around its up direction ever after.
            self._client.camera.up_direction = UP
            self._client.camera.position = (scale * here).numpy()
            self._client.camera.look_at = (scale * (here + AHEAD * camera.camera_to_world[0, :, 2])).numpy()
            self._client.camera.fov = field_of_view(camera)

    def _look_down(self) -> None:
        x, y, _ = self._position()
        block = min(self._stock.city.blocks, key=lambda each: (each.origin[0] - x) ** 2 + (each.origin[1] - y) ** 2)
        above, scale = ABOVE * block.radius, self._stock.scale
        with self._client.atomic():
            self._client.camera.up_direction = UP
            self._client.camera.position = scale * np.array([x, y - 0.02 * above, block.origin[2] + above])
            self._client.camera.look_at = scale * np.array([x, y, block.origin[2]])

    def _camera(self) -> Cameras | None:
        """The visitor's, as large as a finished picture; None where the page tells nonsense."""
        camera = self._client.camera
        w, x, y, z = (float(value) for value in camera.wxyz)
        size = {"width": int(camera.image_width), "height": int(camera.image_height)}
        stand = Stand(position=self._position(), wxyz=(w, x, y, z), fov=float(camera.fov), **size)
        return stand.camera(self._controls.budget)

    def _begin_film(self, film: Trajectory) -> Filming:
        return self._studio.begin(film, *self._controls.film_options())

    def _ask(self) -> None:
        view = self._camera() if self._ready else None
        if view is None:
            return
        try:
            self._painter.ask(self._visit, self._controls.wish(view))
        except BlockNerfError as error:
            self._complain(error)

    def _show(self, picture: Picture, level: float) -> None:
        quality = QUALITY if level == 1.0 else DRAFT_QUALITY
        depth = self._stock.scale * picture.depth if self._scene.visible else None
        self._client.scene.set_background_image(picture.image, format="jpeg", jpeg_quality=quality, depth=depth)
        self._controls.tell(picture)

    def _complain(self, error: Exception) -> None:
        self._controls.complain(error)
