"""Views of a sample: their plan, true and perturbed poses, and renderings."""

from dataclasses import dataclass
from math import isqrt, radians, tan
from random import Random

import numpy as np
import torch
from jaxtyping import Float

from blocknerf.cameras import Cameras
from blocknerf.geometry import compose, se3_exp
from blocknerf.town.rig import (
    EXPOSURE_JITTER,
    RIG,
    SPEED,
    Drive,
    Route,
    camera_pose,
    plan_drives,
    sample_positions,
)
from blocknerf.town.town import RaycastResult, Town
from blocknerf.town.traffic import Traffic, moving_cars


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """Options of a sample."""

    width: int = 192
    height: int = 108
    drives: int = 3
    """Drives alternate in time of day (noon, dusk, overcast) and direction."""
    positions: int = 38
    """Positions along each drive where all three cameras capture an image."""
    route: Route = "main"
    field_of_view: float = 80.0
    """Horizontal field of view (degrees)."""
    exposure_jitter: float = EXPOSURE_JITTER
    """Amplitude of exposure variation around the nominal exposure (stops)."""
    traffic: Traffic = "light"
    translation_noise: float = 0.0
    """Length of the translation error of each drive (m)."""
    rotation_noise: float = 0.0
    """Angle of the rotation error of each drive about its center (degrees)."""
    seed: int = 0
    changed_building: int | None = None
    samples_per_pixel: int = 4
    """Rays per pixel on a regular grid; a square number."""
    jpeg_quality: int = 86
    """JPEG quality, 1 to 95."""

    @property
    def focal(self) -> float:
        """Focal length (pixels)."""
        return round(self.width / 2 / tan(radians(self.field_of_view) / 2), 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleView:
    """One view to render."""

    name: str
    drive: Drive
    camera: str
    seconds: float
    """Time since the start of the drive."""
    exposure: float
    pose: tuple[tuple[float, ...], ...]
    """True camera-to-world matrix (OpenCV axes), rounded as in the file, so that renderings match it."""


def plan_views(spec: SampleSpec) -> list[SampleView]:
    """Return all views in file order: by drive, position and camera; every 8th view cycles through the cameras."""
    views, drives = [], plan_drives(spec.drives, spec.route)
    for drive in drives:
        for position, (x, y, heading, distance) in enumerate(sample_positions(drive, spec.positions)):
            for number, camera in enumerate(RIG):
                pose = camera_pose(x, y, heading, camera).round(8)
                views.append(
                    SampleView(
                        name=f"{drive.name}_{position:03d}_{camera.name}",
                        drive=drive,
                        camera=camera.name,
                        seconds=distance / SPEED,
                        exposure=drive.exposure(position, number, spec.exposure_jitter),
                        pose=tuple(tuple(row) for row in pose.tolist()),
                    )
                )
    return views


def render_view(town: Town, view: SampleView, spec: SampleSpec) -> RaycastResult:
    """Render a view with its depth and motion mask."""
    cameras = Cameras.pinhole(
        torch.tensor([view.pose], dtype=torch.float64), focal=spec.focal, width=spec.width, height=spec.height
    )
    cars = moving_cars(view.drive, view.seconds, spec.traffic)
    return town.render(cameras, 0, view.drive.hour, view.exposure, cars=cars, supersample=isqrt(spec.samples_per_pixel))


def perturb_poses(views: list[SampleView], spec: SampleSpec) -> list[Float[np.ndarray, "3 4"]]:
    """Return poses with a rigid error per drive: a translation, and a rotation about its center."""
    true = [np.array(view.pose) for view in views]
    if not (spec.translation_noise or spec.rotation_noise):
        return true
    perturbed = list(true)
    for drive in {view.drive.name for view in views}:
        members = [i for i, view in enumerate(views) if view.drive.name == drive]
        poses = torch.from_numpy(np.stack([true[i] for i in members]))
        error = _pose_error(Random(f"pose/{spec.seed}/{drive}"), poses[:, :, 3].mean(0), spec)
        for i, pose in zip(members, compose(error.expand(len(members), 3, 4), poses), strict=True):
            perturbed[i] = pose.numpy().round(8)
    return perturbed


def _pose_error(rng: Random, center: Float[torch.Tensor, "3"], spec: SampleSpec) -> Float[torch.Tensor, "3 4"]:
    """Return the rigid error of one drive."""
    translation, axis = _direction(rng) * spec.translation_noise, _direction(rng) * radians(spec.rotation_noise)
    rotation = se3_exp(torch.cat([torch.zeros_like(axis), axis]))[:, :3]
    return torch.cat([rotation, (center + translation - rotation @ center)[:, None]], -1)


def _direction(rng: Random) -> Float[torch.Tensor, "3"]:
    """Return a unit vector, uniform over the sphere."""
    return torch.nn.functional.normalize(torch.tensor([rng.gauss(0.0, 1.0) for _ in range(3)]).double(), dim=0)
