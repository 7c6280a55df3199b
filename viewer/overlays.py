"""3D overlays in the page's scene: blocks, camera frusta, the capture path and the sparse points."""

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

from blocknerf.colormaps import block_color
from viewer.client_camera import field_of_view, quaternion
from viewer.run_contents import RunContents

MAX_FRUSTA, RING_CORNERS = 80, 48
"""Images drawn at most; corners of a block's circle."""


class SceneOverlays:
    """Overlays that a client shows over the rendering."""

    def __init__(self, client: viser.ClientHandle, contents: RunContents, go_to_image: Callable[[int], None]) -> None:
        """Draw nothing yet. `go_to_image` is called with the index of a clicked image."""
        self._contents, self._scene, self._scale = contents, client.scene, contents.scene_scale
        self._go_to_image = go_to_image
        self._draw = {
            "blocks": self._draw_blocks,
            "images": self._draw_images,
            "path": self._draw_path,
            "points": self._draw_points,
        }
        self._roots: dict[str, viser.FrameHandle] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the overlays."""
        return tuple(self._draw)

    @property
    def visible(self) -> bool:
        """Whether any overlay is shown."""
        return any(root.visible for root in self._roots.values())

    def show(self, layer: str, visible: bool) -> None:
        """Show or hide an overlay. It is drawn when first shown."""
        if visible and layer not in self._roots:
            self._roots[layer] = self._scene.add_frame(f"/{layer}", show_axes=False)
            self._draw[layer]()
        elif layer in self._roots:
            self._roots[layer].visible = visible

    def _draw_blocks(self) -> None:
        rings = [self._scale * _ring(block.origin, block.radius) for block in self._contents.city.blocks]
        colors = [np.tile(block_color(i), (RING_CORNERS, 2, 1)) for i in range(len(rings))]
        self._scene.add_line_segments(
            "/blocks/rings", np.concatenate(rings), np.concatenate(colors).astype(np.uint8), thickness=3.0,
            thickness_units="screen",
        )  # fmt: skip
        for i, block in enumerate(self._contents.city.blocks):
            center = self._scale * np.asarray(block.origin)
            ball = self._scene.add_icosphere(
                f"/blocks/{block.name}", self._scale * 0.03 * block.radius, color=block_color(i), position=center
            )
            self._on_click(ball, self._contents.image_at_block(block.name))

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
