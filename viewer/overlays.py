"""3D overlays in the page's scene: blocks, camera frusta, the capture path and the sparse points."""

import math
import threading
from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

from blocknerf.colormaps import block_color
from viewer.client_camera import field_of_view, quaternion
from viewer.run_contents import RunContents

Position = tuple[float, float, float]

MAX_FRUSTA, RING_CORNERS = 80, 48
"""Images drawn at most; corners of a block's circle."""
MAX_RINGS, MAX_MARKERS = 60, 20
"""Blocks around the camera with a circle, and with a ball to click on; they follow the camera."""
MIN_STEP = 0.5
"""Motion of the camera, in radii of the nearest block, after which they are drawn again."""


class SceneOverlays:
    """Overlays that a client shows over the rendering."""

    def __init__(self, client: viser.ClientHandle, contents: RunContents, go_to_image: Callable[[int], None]) -> None:
        """Draw nothing yet. `go_to_image` is called with the index of a clicked image."""
        self._contents, self._scene, self._scale = contents, client.scene, contents.scene_scale
        self._go_to_image = go_to_image
        self._draw = {
            "blocks": lambda: None,  # follows the camera
            "images": self._draw_images,
            "path": self._draw_path,
            "points": self._draw_points,
        }
        self._roots: dict[str, viser.FrameHandle] = {}
        self._drawn_at: Position | None = None
        """Where the camera was when the blocks around it were drawn."""
        self._markers: dict[int, viser.SceneNodeHandle] = {}
        # Updates of the camera and of the check boxes come from two threads.
        self._lock = threading.Lock()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the overlays."""
        return tuple(self._draw)

    @property
    def visible(self) -> bool:
        """Whether any overlay is shown."""
        return any(root.visible for root in self._roots.values())

    def show(self, layer: str, visible: bool, position: Position) -> None:
        """Show or hide an overlay, for a camera at a position in world units. It is drawn when first shown."""
        with self._lock:
            if visible and layer not in self._roots:
                self._roots[layer] = self._scene.add_frame(f"/{layer}", show_axes=False)
                self._draw[layer]()
            elif layer in self._roots:
                self._roots[layer].visible = visible
        self.follow(position)

    def follow(self, position: Position) -> None:
        """Draw the blocks around a camera at a position in world units, if blocks are shown."""
        with self._lock:
            root = self._roots.get("blocks")
            if root is None or not root.visible:
                return
            nearest = self._contents.city.nearest(*position[:2], MAX_RINGS)
            step = MIN_STEP * self._contents.city.blocks[nearest[0]].radius
            if self._drawn_at is None or math.dist(position[:2], self._drawn_at[:2]) >= step:
                self._drawn_at = position
                self._draw_rings(sorted(nearest))
                self._draw_markers(nearest[:MAX_MARKERS])

    def _draw_rings(self, indices: list[int]) -> None:
        blocks = [self._contents.city.blocks[i] for i in indices]
        rings = [self._scale * _ring(block.origin, block.radius) for block in blocks]
        colors = [np.tile(block_color(i), (RING_CORNERS, 2, 1)) for i in indices]
        # Replaces the rings of the same name.
        self._scene.add_line_segments(
            "/blocks/rings", np.concatenate(rings), np.concatenate(colors).astype(np.uint8), thickness=3.0,
            thickness_units="screen",
        )  # fmt: skip

    def _draw_markers(self, indices: list[int]) -> None:
        for index in self._markers.keys() - set(indices):
            self._markers.pop(index).remove()
        for index in sorted(set(indices) - self._markers.keys()):
            block = self._contents.city.blocks[index]
            center = self._scale * np.asarray(block.origin)
            ball = self._scene.add_icosphere(
                f"/blocks/{block.name}", self._scale * 0.03 * block.radius, color=block_color(index), position=center
            )
            self._on_click(ball, self._contents.image_at_block(block.name))
            self._markers[index] = ball

    def _draw_images(self) -> None:
        count = len(self._contents.capture)
        size = self._scale * 0.03 * float(np.median([block.radius for block in self._contents.city.blocks]))
        for index in sorted(set(np.linspace(0, count - 1, min(MAX_FRUSTA, count)).round().astype(int).tolist())):
            camera = self._contents.image(index)
            frustum = self._scene.add_camera_frustum(
                f"/images/{index}", field_of_view(camera), float(camera.width[0] / camera.height[0]), scale=size,
                thickness=1.5, thickness_units="screen", color=(40, 90, 160), wxyz=quaternion(camera),
                position=(self._scale * camera.centers[0]).numpy(),
            )  # fmt: skip
            self._on_click(frustum, index)

    def _draw_path(self) -> None:
        path = self._scale * self._contents.cameras.centers[list(self._contents.path)].float().numpy()
        if len(path) > 1:
            lines = np.stack([path[:-1], path[1:]], 1)
            self._scene.add_line_segments("/path/line", lines, (120, 120, 120), thickness=2.0, thickness_units="screen")

    def _draw_points(self) -> None:
        cloud = self._contents.points
        if cloud is None or not len(cloud.positions):
            return
        positions = self._scale * np.asarray(cloud.positions, np.float32)
        colors = np.full_like(positions, 128, np.uint8) if cloud.colors is None else cloud.colors
        self._scene.add_point_cloud("/points/cloud", positions, colors, point_size=self._scale * 0.05)

    def _on_click(self, node: viser.SceneNodeHandle, image: int) -> None:
        @node.on_click  # type: ignore[attr-defined]
        def _(_: object) -> None:
            self._go_to_image(image)


def _ring(origin: tuple[float, float, float], radius: float) -> Float[np.ndarray, "corners 2 3"]:
    angle = np.linspace(0.0, 2.0 * np.pi, RING_CORNERS + 1)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(RING_CORNERS + 1)], -1) * radius + np.asarray(origin)
    return np.stack([ring[:-1], ring[1:]], 1).astype(np.float32)
