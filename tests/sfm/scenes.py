"""Reconstructions with known cameras, in a model's own frame."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from blocknerf.cameras import look_at
from blocknerf.sfm.model import Model

TILT = Rotation.from_euler("xyz", [50.0, -20.0, 100.0], degrees=True).as_matrix()
SCALE, SHIFT = 0.13, np.array([3.0, -2.0, 8.0])
"""From the world to the model: scale * TILT @ x + SHIFT."""


def street(count: int = 30) -> np.ndarray:
    """Poses along a bent street, with a little pitch; z is up."""
    s = np.linspace(0.0, 150.0, count)
    eyes = np.stack([s, 10.0 * np.sin(s / 40.0), np.full(count, 1.6)], -1)
    pitch = 4.0 * np.sin(np.arange(count) / 3.0)
    return poses(eyes, eyes + np.stack([np.full(count, 30.0), 20.0 * np.sin(s), pitch], -1))


def flight(count: int = 36) -> np.ndarray:
    """Poses of a drone that looks down and turns at the end of each strip; z is up."""
    i = np.arange(count)
    strip = i // 12
    x = np.where(strip % 2 == 0, i % 12, 11 - i % 12) * 8.0
    eyes = np.stack([x, strip * 20.0, np.full(count, 50.0)], -1)
    ahead = np.where(strip % 2 == 0, 1.0, -1.0)
    return poses(eyes, eyes + np.stack([4.0 * ahead, np.zeros(count), np.full(count, -50.0)], -1))


def poses(eyes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return look_at(torch.from_numpy(eyes), torch.from_numpy(targets)).numpy()


def to_model(camera_to_world: np.ndarray) -> np.ndarray:
    """Return poses in the model's frame."""
    rotations = TILT @ camera_to_world[:, :, :3]
    centers = SCALE * camera_to_world[:, :, 3] @ TILT.T + SHIFT
    return np.concatenate([rotations, centers[:, :, None]], -1)


def points_to_model(points: np.ndarray) -> np.ndarray:
    return SCALE * points @ TILT.T + SHIFT


def model_of(camera_to_world: np.ndarray, names: tuple[str, ...], points: np.ndarray | None = None) -> Model:
    """Return a model with one lens."""
    points = np.zeros((0, 3)) if points is None else points
    return Model(
        names=names,
        camera_to_world=camera_to_world,
        cameras=np.zeros(len(names), np.int64),
        lens_parameters=np.array([[50.0, 20.0, 15.0, 0.01, 0.0, 0.0, 0.0, 0.0]]),
        points=points,
        colors=np.full((len(points), 3), 90, np.uint8),
        error=0.5,
        sizes=(len(names),),
    )
