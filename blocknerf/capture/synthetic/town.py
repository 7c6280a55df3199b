"""The sample city: an analytic town that can be looked at from anywhere, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.capture.synthetic.layout import Plan, draw_plan
from blocknerf.capture.synthetic.lighting import HOURS, Hour, lighting_table
from blocknerf.capture.synthetic.solids import Solid, SolidTable
from blocknerf.errors import CaptureError

if TYPE_CHECKING:
    from blocknerf.capture.synthetic.caster import Cars
    from blocknerf.capture.synthetic.traversal import Scene

FAR = 300.0
"""Nothing of the town or the hills around it is farther than this from a camera in its streets (m)."""
SKY_RAYS = 24
"""Directions that sample the sky for the ambient light of one cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """What rays see."""

    color: Float[Tensor, "*batch 3"]
    """As a photograph shows it, 0..1."""
    depth: Float[Tensor, "*batch"]
    """Distance along the ray (m); infinite where it meets the sky."""
    moving: Bool[Tensor, "*batch"]
    """Whether it meets a moving car."""


def develop(radiance: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch channels"]:
    """Photographic response, 0..1: extended Reinhard with white at 4, then a gamma of two.

    Rational but for a square root, so that pictures repeat to the last bit, and differentiable at zero.

    >>> develop(torch.tensor([[0.0, 0.2, 4.0]]))
    tensor([[0.0000, 0.3995, 1.0000]])
    """
    light = radiance.clamp_min(0.0)
    response = light * (1 + light / 16) / (1 + light)
    return ((response + 1e-4).sqrt() - 1e-2).mul(1 / ((1 + 1e-4) ** 0.5 - 1e-2)).clamp_max(1.0)


class Town:
    """Streets, houses, trees and cars as solids, with the light on them; the same for the same seed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._scene: "Scene | None" = None

    @classmethod
    def build(cls, seed: int = 0, *, changed_building: int | None = None) -> "Town":
        """The town of a seed, with one building replaced by another if asked for.

        Raises:
            CaptureError: there is no building of that number.
        """
        count = len(draw_plan(seed, None).buildings)
        if changed_building is not None and not 0 <= changed_building < count:
            raise CaptureError(f"no building {changed_building} in the sample city: choose one from 0 to {count - 1}")
        return cls(draw_plan(seed, changed_building))

    @property
    def scene(self) -> "Scene":
        """The town as arrays, with its ambient light; made on first use (about a second)."""
        if self._scene is None:
            self._scene = _make_scene(self.plan)
        return self._scene

    def cast(
        self,
        rays: RayBundle,
        hour: Hour,
        exposure: float,
        *,
        cars: Sequence[Solid] = (),
    ) -> Cast:
        """What rays see at an hour; `exposure` is shutter time (ms) x ISO, `cars` are solids that move."""
        from blocknerf.capture.synthetic.caster import cast_rays

        shape = rays.radii.shape
        flat = rays.flatten()
        count = len(flat.origins)
        radiance, depth, moving = np.empty((count, 3)), np.empty(count), np.empty(count, np.bool_)
        light = lighting_table()[HOURS.index(hour)]
        origins, directions, radii = (_array(value) for value in (flat.origins, flat.directions, flat.radii))
        cast_rays(self.scene, pack_cars(cars), light, origins, directions, radii, FAR, radiance, depth, moving)
        color = develop(torch.from_numpy(radiance) * (exposure / 1000.0))
        return Cast(
            color=color.float().reshape(*shape, 3),
            depth=torch.from_numpy(depth).float().reshape(shape),
            moving=torch.from_numpy(moving).reshape(shape),
        )

    def render(
        self,
        cameras: Cameras,
        index: int,
        hour: Hour,
        exposure: float,
        *,
        cars: Sequence[Solid] = (),
        supersample: int = 2,
    ) -> Cast:
        """A photograph `[height, width]` of `supersample`^2 rays a pixel; depth is that of the pixel's middle.

        A pixel counts as moving if any of its rays meets a moving car.
        """
        view = _in_double(cameras[index])
        width, height = int(view.width[0]), int(view.height[0])
        fine = self.cast(view.scaled(supersample).image_rays(0), hour, exposure, cars=cars)
        tiles = (height, supersample, width, supersample)
        middle = fine if supersample % 2 else self.cast(view.image_rays(0), hour, exposure, cars=cars)
        pick = slice(supersample // 2, None, supersample) if supersample % 2 else slice(None)
        return Cast(
            color=fine.color.reshape(*tiles, 3).mean((1, 3)),
            depth=middle.depth[pick, pick],
            moving=fine.moving.reshape(tiles).any(3).any(1),
        )


def pack_cars(cars: Sequence[Solid]) -> "Cars":
    """Moving solids as the kernels take them."""
    from blocknerf.capture.synthetic.caster import Cars

    table = SolidTable.pack(cars)
    return Cars(kinds=table.kinds, materials=table.materials, values=table.values)


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), np.float64)


def _in_double(cameras: Cameras) -> Cameras:
    """The cameras in double precision, where the order of a sum cannot move a ray by a visible amount."""
    return Cameras(
        camera_to_world=cameras.camera_to_world.double(),
        intrinsics=cameras.intrinsics.double(),
        distortion=cameras.distortion.double(),
        model=cameras.model,
        width=cameras.width,
        height=cameras.height,
    )


def _sky_directions() -> np.ndarray:
    """Upward directions, denser toward the zenith as a level surface sees them (Fibonacci spiral)."""
    step = (np.arange(SKY_RAYS) + 0.5) / SKY_RAYS
    height, turn = np.sqrt(1 - step * 0.97), np.arange(SKY_RAYS) * 2.399963229728653
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), height], -1)


def _make_scene(plan: Plan) -> "Scene":
    from blocknerf.capture.synthetic.shading import VOXEL, fill_skylight
    from blocknerf.capture.synthetic.traversal import Scene, build_grid

    table = SolidTable.pack((*plan.solids, *plan.hills))
    inner, cell = len(plan.solids), 2.0
    starts, items, low, shape = build_grid(table, inner, cell)
    cells = np.ceil(shape * cell / VOXEL).astype(np.int64)
    scene = Scene(
        kinds=table.kinds,
        materials=table.materials,
        values=table.values,
        starts=starts,
        items=items,
        low=low,
        shape=shape,
        cell=cell,
        inner=inner,
        lamps=np.array(plan.lamps, np.float64).reshape(-1, 3),
        skylight=np.zeros((cells[2], cells[1], cells[0])),
    )
    fill_skylight(scene, _sky_directions(), scene.skylight)
    return scene
