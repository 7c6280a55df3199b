"""What stands in the page's scene besides the picture: blocks, photographs, their way and the capture's points."""

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float

from blocknerf.colormaps import block_color
from viewer.client_camera import field_of_view, quaternion
from viewer.run_contents import RunContents

FRUSTA, RING = 80, 48
"""Most photographs that are drawn; corners of a block's circle."""


class SceneOverlays:
    """What a visitor shows of the run beside the picture."""

    def __init__(self, client: viser.ClientHandle, stock: RunContents, go_to: Callable[[int], None]) -> None:
        """The scene of a visitor, nothing of it drawn; `go_to` is told at which photograph they click."""
        self._contents, self._go_to, self._scene, self._scale = stock, go_to, client.scene, stock.scene_scale
        self._draw = {
            "blocks": self._draw_blocks,
            "images": self._draw_images,
            "path": self._draw_path,
            "points": self._draw_points,
        }
        self._roots: dict[str, viser.FrameHandle] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """What there is to show."""
        return tuple(self._draw)

    @property
    def visible(self) -> bool:
        """Whether anything of it shows."""
        return any(root.visible for root in self._roots.values())

    def show(self, kind: str, visible: bool) -> None:
        """Show or hide one kind of things; drawn when they are first shown."""
        if visible and kind not in self._roots:
            self._roots[kind] = self._scene.add_frame(f"/{kind}", show_axes=False)
            self._draw[kind]()
        elif kind in self._roots:
            self._roots[kind].visible = visible

    def _draw_blocks(self) -> None:
        rings = [self._scale * _ring(block.origin, block.radius) for block in self._contents.city.blocks]
        colors = [np.tile(block_color(i), (RING, 2, 1)) for i in range(len(rings))]
        self._scene.add_line_segments(
            "/blocks/rings", np.concatenate(rings), np.concatenate(colors).astype(np.uint8), thickness=3.0,
            thickness_units="screen",
        )  # fmt: skip
        for i, block in enumerate(self._contents.city.blocks):
            place = self._scale * np.asarray(block.origin)
            ball = self._scene.add_icosphere(
                f"/blocks/{block.name}", self._scale * 0.03 * block.radius, color=block_color(i), position=place
            )
            self._on_click(ball, self._contents.image_at_block(block.name))

    def _draw_images(self) -> None:
        count = len(self._contents.capture)
        size = self._scale * 0.03 * float(np.median([block.radius for block in self._contents.city.blocks]))
        for index in sorted(set(np.linspace(0, count - 1, min(FRUSTA, count)).round().astype(int).tolist())):
            camera = self._contents.image(index)
            frustum = self._scene.add_camera_frustum(
                f"/photographs/{index}", field_of_view(camera), float(camera.width[0] / camera.height[0]), scale=size,
                thickness=1.5, thickness_units="screen", color=(40, 90, 160), wxyz=quaternion(camera),
                position=(self._scale * camera.centers[0]).numpy(),
            )  # fmt: skip
            self._on_click(frustum, index)

    def _draw_path(self) -> None:
        way = self._scale * self._contents.cameras.centers[list(self._contents.path)].float().numpy()
        if len(way) > 1:
            self._scene.add_line_segments(
                "/way/line", np.stack([way[:-1], way[1:]], 1), (120, 120, 120), thickness=2.0, thickness_units="screen"
            )  # fmt: skip

    def _draw_points(self) -> None:
        cloud = self._contents.points
        if cloud is None or not len(cloud.positions):
            return
        positions = self._scale * np.asarray(cloud.positions, np.float32)
        colors = np.full_like(positions, 128, np.uint8) if cloud.colors is None else cloud.colors
        self._scene.add_point_cloud("/points/cloud", positions, colors, point_size=self._scale * 0.05)

    def _on_click(self, node: viser.SceneNodeHandle, photograph: int) -> None:
        @node.on_click  # type: ignore[attr-defined]
        def _(_: object) -> None:
            self._go_to(photograph)


def _ring(origin: tuple[float, float, float], radius: float) -> Float[np.ndarray, "corners 2 3"]:
    angle = np.linspace(0.0, 2.0 * np.pi, RING + 1)
    around = np.stack([np.cos(angle), np.sin(angle), np.zeros(RING + 1)], -1) * radius + np.asarray(origin)
    return np.stack([around[:-1], around[1:]], 1).astype(np.float32)
