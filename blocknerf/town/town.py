"""The sample city: an analytic town with exact renderings from any viewpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.errors import CaptureError
from blocknerf.town.layout import TownLayout, generate_layout
from blocknerf.town.lighting import TIMES_OF_DAY, TimeOfDay, lighting_table
from blocknerf.town.solids import Solid, SolidArrays

if TYPE_CHECKING:
    from blocknerf.town.acceleration_grid import Cars, Scene

Car = Sequence[Solid]
"""Solids of one moving object."""
FAR = 300.0
"""Maximum distance of any surface from a camera in the streets (m)."""
SKY_RAYS = 24
"""Directions that sample the sky per cell of ambient light."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaycastResult:
    """Color, depth and motion mask of rays."""

    color: Float[Tensor, "*batch 3"]
    """Tone-mapped color, 0..1."""
    depth: Float[Tensor, "*batch"]
    """Distance along the ray (m); infinite for the sky."""
    moving: Bool[Tensor, "*batch"]
    """Whether the ray hits a moving car."""


def tone_map(radiance: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch channels"]:
    """Return the camera response, 0..1: extended Reinhard with white at 4, then a gamma of 2.

    Only rational operations and a square root, so that renderings are bit-exact; differentiable at zero.

    >>> tone_map(torch.tensor([[0.0, 0.2, 4.0]]))
    tensor([[0.0000, 0.4049, 1.0000]])
    """
    clamped = radiance.clamp_min(0.0)
    response = clamped * (1 + clamped / 16) / (1 + clamped)
    return ((response + 1e-4).sqrt() - 1e-2).mul(1 / ((1 + 1e-4) ** 0.5 - 1e-2)).clamp_max(1.0)


class Town:
    """Streets, houses, trees and cars as solids, with their lighting; deterministic per seed."""

    def __init__(self, layout: TownLayout) -> None:
        self.layout = layout
        self._scene: "Scene | None" = None

    @classmethod
    def build(cls, seed: int = 0, *, changed_building: int | None = None) -> "Town":
        """Build the town of a seed, optionally with one building replaced.

        Raises:
            CaptureError: the building does not exist.
        """
        count = len(generate_layout(seed, None).buildings)
        if changed_building is not None and not 0 <= changed_building < count:
            raise CaptureError(
                f"--changed-building {changed_building}: there is no such building; give 0 to {count - 1}"
            )
        return cls(generate_layout(seed, changed_building))

    @property
    def scene(self) -> "Scene":
        """Arrays of the town with its ambient light; built on first use (about 1 s)."""
        if self._scene is None:
            self._scene = _make_scene(self.layout)
        return self._scene

    def raycast(self, rays: RayBundle, hour: TimeOfDay, exposure: float, *, cars: Sequence[Car] = ()) -> RaycastResult:
        """Cast rays at a time of day; `exposure` is shutter time (ms) x ISO, `cars` are moving cars."""
        flat = rays.flatten()
        directions, packed = as_array(flat.directions), pack_cars(cars)
        depth, solids = self._intersect(as_array(flat.origins), directions, packed)
        distance = np.where(np.isinf(depth), 0.0, depth)
        points = as_array(flat.origins) + distance[:, None] * directions
        lightings = lighting_table()[[TIMES_OF_DAY.index(hour)]]
        radiance = self.surface_radiance(points, solids, 2.0 * distance * as_array(flat.pixel_radii), lightings, packed)
        sky = np.isinf(depth)
        radiance[sky] = sky_radiance(directions[sky], lightings)
        shape = rays.pixel_radii.shape
        return RaycastResult(
            color=tone_map(torch.from_numpy(radiance) * (exposure / 1000.0)).float().reshape(*shape, 3),
            depth=torch.from_numpy(depth).float().reshape(shape),
            moving=torch.from_numpy(solids >= len(self.scene.kinds)).reshape(shape),
        )

    def measure(self, rays: RayBundle, *, cars: Sequence[Car] = ()) -> Float[Tensor, "*batch"]:
        """Return the exact distance to the first surface along each ray (m); infinite if none."""
        flat = rays.flatten()
        depth, _ = self._intersect(as_array(flat.origins), as_array(flat.directions), pack_cars(cars))
        return torch.from_numpy(depth).float().reshape(rays.pixel_radii.shape)

    def surface_radiance(
        self,
        points: Float[np.ndarray, "points 3"],
        solids: Int[np.ndarray, "points"],
        widths: Float[np.ndarray, "points"],
        lightings: Float[np.ndarray, "lightings columns"],
        cars: "Cars | None" = None,
    ) -> Float[np.ndarray, "points channels"]:
        """Return the radiance of surface points (on or just below a solid): three channels per lighting."""
        from blocknerf.town.raycaster import shade_surfaces

        cars = pack_cars(()) if cars is None else cars
        scene = self.scene
        kinds, materials, values = (np.concatenate(pair) for pair in zip(scene[:3], cars[:3], strict=True))
        radiance = np.empty((len(points), 3 * len(lightings)))
        shade_surfaces(scene, cars, kinds, materials, values, lightings, points, solids, widths, radiance)
        return radiance

    def _intersect(
        self, origins: Float[np.ndarray, "rays 3"], directions: Float[np.ndarray, "rays 3"], cars: "Cars"
    ) -> tuple[Float[np.ndarray, "rays"], Int[np.ndarray, "rays"]]:
        from blocknerf.town.raycaster import intersect_rays

        depth, solids = np.empty(len(origins)), np.empty(len(origins), np.int64)
        intersect_rays(self.scene, cars, origins, directions, FAR, depth, solids)
        return depth, solids

    def render(
        self,
        cameras: Cameras,
        index: int,
        hour: TimeOfDay,
        exposure: float,
        *,
        cars: Sequence[Car] = (),
        supersample: int = 2,
    ) -> RaycastResult:
        """Render an image `[height, width]` with `supersample`^2 rays per pixel; depth is that of the pixel center.

        A pixel counts as moving if any of its rays hits a moving car.
        """
        view = _to_double(cameras[index])
        tiles = (int(view.height[0]), supersample, int(view.width[0]), supersample)
        fine = self.raycast(view.scaled(supersample).generate_rays(0), hour, exposure, cars=cars)
        return RaycastResult(
            color=fine.color.reshape(*tiles, 3).mean((1, 3)),
            depth=self.measure(view.generate_rays(0), cars=cars),
            moving=fine.moving.reshape(tiles).any(3).any(1),
        )


def pack_cars(cars: Sequence[Car]) -> "Cars":
    """Return moving cars as arrays for the kernels."""
    from blocknerf.town.acceleration_grid import Cars

    table = SolidArrays.pack([solid for car in cars for solid in car])
    starts = np.cumsum([0, *(len(car) for car in cars)])
    low, high = table.bounds()
    spheres = np.zeros((len(cars), 4))
    for i in range(len(cars)):
        bottom, top = low[starts[i] : starts[i + 1]].min(0), high[starts[i] : starts[i + 1]].max(0)
        spheres[i] = [*(bottom + top) / 2, np.sqrt(((top - bottom) ** 2).sum()) / 2]
    return Cars(kinds=table.kinds, materials=table.materials, values=table.values, starts=starts, spheres=spheres)


def sky_radiance(
    directions: Float[np.ndarray, "rays 3"], lightings: Float[np.ndarray, "lightings columns"]
) -> Float[np.ndarray, "rays channels"]:
    """Return the radiance of the sky: three channels per lighting."""
    from blocknerf.town.raycaster import shade_sky

    radiance = np.empty((len(directions), 3 * len(lightings)))
    shade_sky(lightings, directions, radiance)
    return radiance


def as_array(values: Tensor) -> Float[np.ndarray, "*shape"]:
    """Return a tensor as a double-precision array for the kernels."""
    return np.ascontiguousarray(values.detach().cpu().numpy(), np.float64)


def _to_double(cameras: Cameras) -> Cameras:
    """Return the cameras in double precision, so that the order of sums has no visible effect on rays."""
    return Cameras(
        camera_to_world=cameras.camera_to_world.double(),
        intrinsics=cameras.intrinsics.double(),
        distortion=cameras.distortion.double(),
        model=cameras.model,
        width=cameras.width,
        height=cameras.height,
    )


def _sky_directions() -> np.ndarray:
    """Return upward directions, cosine-weighted for a horizontal surface (Fibonacci spiral)."""
    step = (np.arange(SKY_RAYS) + 0.5) / SKY_RAYS
    height, angle = np.sqrt(1 - step * 0.97), np.arange(SKY_RAYS) * 2.399963229728653
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), height], -1)


def _make_scene(layout: TownLayout) -> "Scene":
    from blocknerf.town.acceleration_grid import Scene, build_grid
    from blocknerf.town.raycaster import fill_skylight
    from blocknerf.town.shading import VOXEL

    table = SolidArrays.pack((*layout.solids, *layout.hills))
    inner, cell = len(layout.solids), 2.0
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
        lamps=np.array(layout.lamps, np.float64).reshape(-1, 3),
        skylight=np.zeros((cells[2], cells[1], cells[0])),
    )
    fill_skylight(scene, _sky_directions(), scene.skylight)
    return scene
