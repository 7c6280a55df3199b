"""The photographs of a sample: which are taken, from where, and where their poses are said to be."""

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
    """What a sample holds."""

    width: int = 192
    height: int = 108
    drives: int = 3
    """They take turns in hour (noon, dusk, overcast) and direction."""
    positions: int = 38
    """Places along each drive where all three cameras take a photograph."""
    route: Route = "main"
    field_of_view: float = 80.0
    """From side to side of a photograph (degrees)."""
    exposure_jitter: float = EXPOSURE_JITTER
    """How far the exposure wanders to either side of the hour's (stops)."""
    traffic: Traffic = "light"
    translation_noise: float = 0.0
    """Length of the shift that displaces the poses of each drive (m)."""
    rotation_noise: float = 0.0
    """Angle that turns the poses of each drive about their middle (degrees)."""
    seed: int = 0
    changed_building: int | None = None
    samples_per_pixel: int = 4
    """Rays per pixel on a regular grid; a square number."""
    jpeg_quality: int = 86
    """Of the JPEGs."""

    @property
    def focal(self) -> float:
        """In pixels."""
        return round(self.width / 2 / tan(radians(self.field_of_view) / 2), 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleView:
    """One photograph to take."""

    name: str
    drive: Drive
    camera: str
    seconds: float
    """Since the drive's start."""
    exposure: float
    pose: tuple[tuple[float, ...], ...]
    """True camera to world (OpenCV axes), as written to the file: what is rendered is what is said."""


def plan_views(spec: SampleSpec) -> list[SampleView]:
    """All photographs in the order of the file: by drive, stop and camera, so that every 8th is of any camera."""
    shots = []
    for drive in plan_drives(spec.drives, spec.route):
        for stop, (x, y, heading, distance) in enumerate(sample_positions(drive, spec.positions)):
            for camera, mount in enumerate(RIG):
                pose = camera_pose(x, y, heading, mount).round(8)
                shots.append(
                    SampleView(
                        name=f"{drive.name}_{stop:03d}_{mount.name}",
                        drive=drive,
                        camera=mount.name,
                        seconds=distance / SPEED,
                        exposure=drive.exposure(stop, camera, spec.exposure_jitter),
                        pose=tuple(tuple(row) for row in pose.tolist()),
                    )
                )
    return shots


def render_view(town: Town, shot: SampleView, spec: SampleSpec) -> RaycastResult:
    """The photograph of a shot, with its depth and where cars move."""
    cameras = Cameras.pinhole(
        torch.tensor([shot.pose], dtype=torch.float64), focal=spec.focal, width=spec.width, height=spec.height
    )
    cars = moving_cars(shot.drive, shot.seconds, spec.traffic)
    return town.render(cameras, 0, shot.drive.hour, shot.exposure, cars=cars, supersample=isqrt(spec.samples_per_pixel))


def perturb_poses(shots: list[SampleView], spec: SampleSpec) -> list[Float[np.ndarray, "3 4"]]:
    """Poses as each drive's navigation would report them: the drive is shifted, and turned about its middle."""
    true = [np.array(shot.pose) for shot in shots]
    if not (spec.translation_noise or spec.rotation_noise):
        return true
    moved = list(true)
    for drive in {shot.drive.name for shot in shots}:
        members = [i for i, shot in enumerate(shots) if shot.drive.name == drive]
        poses = torch.from_numpy(np.stack([true[i] for i in members]))
        offset = _offset(Random(f"pose/{spec.seed}/{drive}"), poses[:, :, 3].mean(0), spec)
        for i, pose in zip(members, compose(offset.expand(len(members), 3, 4), poses), strict=True):
            moved[i] = pose.numpy().round(8)
    return moved


def _offset(rng: Random, middle: Float[torch.Tensor, "3"], spec: SampleSpec) -> Float[torch.Tensor, "3 4"]:
    """The rigid motion that displaces one drive."""
    shift, axis = _direction(rng) * spec.translation_noise, _direction(rng) * radians(spec.rotation_noise)
    turn = se3_exp(torch.cat([torch.zeros_like(axis), axis]))[:, :3]
    return torch.cat([turn, (middle + shift - turn @ middle)[:, None]], -1)


def _direction(rng: Random) -> Float[torch.Tensor, "3"]:
    """A unit vector, uniform over the sphere."""
    return torch.nn.functional.normalize(torch.tensor([rng.gauss(0.0, 1.0) for _ in range(3)]).double(), dim=0)
