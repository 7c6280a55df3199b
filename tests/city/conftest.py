"""Analytic scenes in place of trained blocks: closed-form density, color, and visibility to training cameras."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, look_at
from blocknerf.city.manifest import City
from blocknerf.partitioning.block import Block

Solid = tuple[tuple[float, float, float], tuple[float, float, float]]


def ray_box(eye: Tensor, directions: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances at which rays from an eye enter and leave a box; enter > leave if a ray misses it."""
    nonzero = torch.where(directions.abs() < 1e-12, torch.full_like(directions, 1e-12), directions)
    first, second = (low - eye) / nonzero, (high - eye) / nonzero
    return torch.minimum(first, second).amax(-1).clamp_min(0.0), torch.maximum(first, second).amin(-1)


class BoxScene:
    """Opaque boxes colored by position before a sky of one color, seen by training cameras at some positions."""

    appearance_dim, near, far, linear_until = 3, 0.05, 60.0, 10.0
    num_samples = (64, 32)

    def __init__(self, boxes: list[Solid], eyes: list[tuple[float, float, float]], tint: float = 0.0) -> None:
        self.boxes = [(torch.tensor(low), torch.tensor(high)) for low, high in boxes]
        self.eyes, self.tint = torch.tensor(eyes), tint

    @property
    def proposal_density_fns(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        return [lambda points, footprints: self.density(points, footprints)[0]]

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.zeros(points.shape[:-1], dtype=torch.bool)
        for low, high in self.boxes:
            inside |= ((points >= low) & (points <= high)).all(-1)
        return 40.0 * inside, points

    def color(self, features: Tensor, directions: Tensor, code: Tensor) -> Tensor:
        return 0.5 + 0.4 * torch.sin(0.5 * features) + self.tint + code[:, None, :]

    def sky(self, directions: Tensor, code: Tensor) -> Tensor:
        return torch.full_like(directions, 0.6) + code

    def expose(self, color: Tensor, exposure: Tensor) -> Tensor:
        return color * exposure[:, None]

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        """Return 1 where nothing is between a point and some eye, up to a skin of one tenth."""
        flat_points = points.reshape(-1, 3)
        visible = torch.zeros(len(flat_points), dtype=torch.bool)
        for eye in self.eyes:
            offset = flat_points - eye
            distance = offset.norm(dim=-1)
            unoccluded = torch.ones_like(visible)
            for low, high in self.boxes:
                enter, leave = ray_box(eye, offset / distance[:, None], low, high)
                unoccluded &= (enter > leave) | (enter > distance - 0.1)
            visible |= unoccluded
        return visible.float().view(points.shape[:-1])


WALLS = [((-40.0, 4.0, 0.0), (60.0, 6.0, 4.0)), ((-40.0, -6.0, 0.0), (60.0, -4.0, 6.0))]
EYES = [(float(x), 0.0, 1.5) for x in range(-5, 46, 5)]


class StreetScene(BoxScene):
    """Two walls along x, seen in training from all along the street, or from some positions."""

    def __init__(self, *, tint: float = 0.0, eyes: list[tuple[float, float, float]] = EYES) -> None:
        super().__init__(WALLS, eyes, tint)


def make_view(eye: tuple[float, float, float], target: tuple[float, float, float], size: int = 24) -> Cameras:
    """Return one camera, 90 degrees wide."""
    pose = look_at(torch.tensor([eye]), torch.tensor([target]))
    return Cameras.pinhole(pose, focal=size / 2, width=size, height=size)


def make_route(count: int, **settings: object) -> City:
    """Return blocks of radius 10 along x, one radius apart."""
    blocks = [Block(name=f"b{i:03d}", origin=(10.0 * i, 0.0, 0.0), radius=10.0) for i in range(count)]
    return City(blocks=tuple(blocks), **settings)


def make_grid(side: int) -> City:
    """Return side x side blocks of radius 10 on a hexagonal lattice, one radius apart."""
    blocks = [
        Block(
            name=f"b{i:05d}",
            origin=(10.0 * (i % side + 0.5 * (i // side % 2)), 5.0 * math.sqrt(3) * (i // side), 0.0),
            radius=10.0,
        )
        for i in range(side * side)
    ]
    return City(blocks=tuple(blocks))


@pytest.fixture(scope="session")
def box_scene() -> type[BoxScene]:
    return BoxScene


@pytest.fixture(scope="session")
def street_scene() -> type[StreetScene]:
    return StreetScene


@pytest.fixture(scope="session")
def view() -> Callable[..., Cameras]:
    return make_view


@pytest.fixture(scope="session")
def route() -> Callable[..., City]:
    return make_route


@pytest.fixture(scope="session")
def grid() -> Callable[[int], City]:
    return make_grid
