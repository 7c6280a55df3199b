"""Scenes with closed-form renderings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle

Color = tuple[float, float, float]
SKY: Color = (0.3, 0.5, 0.9)


@dataclass
class Slabs:
    """Layers of homogeneous fog across the x axis: `(start, end, density, color)`, not overlapping."""

    layers: Sequence[tuple[float, float, float, Color]]
    num_samples: tuple[int, ...] = (256, 256)
    appearance_dim: int = 3
    near: float = 0.05
    far: float = 100.0
    linear_until: float = 10.0
    proposal: Callable[[Tensor, Tensor], Tensor] | None = None
    """Density of the proposals, in place of the exact one."""
    evaluated: list[int] = field(default_factory=list)
    """Number of points in each call of `density`."""

    @property
    def proposal_density_fns(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        return [self.proposal or (lambda points, footprints: self.exact(points))]

    def exact(self, points: Tensor) -> Tensor:
        x = points[..., 0]
        return sum(density * ((x >= start) & (x < end)) for start, end, density, _ in self.layers) + torch.zeros_like(x)

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluated.append(footprints.numel())
        return self.exact(points), points

    def color(self, features: Tensor, directions: Tensor, code: Tensor) -> Tensor:
        """The color of each layer, plus the code; `expose` multiplies by the exposure."""
        colors = torch.zeros_like(features)
        for start, end, _, color in self.layers:
            inside = (features[..., :1] >= start) & (features[..., :1] < end)
            colors = colors + inside * torch.tensor(color)
        return colors + code[:, None]

    def sky(self, directions: Tensor, code: Tensor) -> Tensor:
        return torch.tensor(SKY) + code

    def expose(self, color: Tensor, exposure: Tensor) -> Tensor:
        return color * exposure[:, None]

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        """As trained with cameras far to the left: 1 up to just behind the first surface, 0 beyond."""
        return (points[..., 0] < self.layers[0][0] + 0.2).float()

    def expected(self, direction_x: float = 1.0) -> tuple[Tensor, float, float]:
        """Color, opacity and depth of a ray from the origin with this x component of its direction."""
        color, depth, transmittance = torch.zeros(3), 0.0, 1.0
        for start, end, density, layer_color in self.layers:
            a, b = start / direction_x, end / direction_x
            layer_transmittance = math.exp(-density * (b - a))
            color = color + transmittance * (1.0 - layer_transmittance) * torch.tensor(layer_color)
            depth += transmittance * (a + 1.0 / density - (b + 1.0 / density) * layer_transmittance)
            transmittance *= layer_transmittance
        return color + transmittance * torch.tensor(SKY), 1.0 - transmittance, depth + transmittance * self.far


def make_rays(directions_x: Sequence[float]) -> RayBundle:
    """Rays from the origin in the plane y = 0, with these x components of their unit directions."""
    x = torch.tensor(directions_x)
    directions = torch.stack([x, torch.zeros_like(x), (1.0 - x * x).clamp_min(0.0).sqrt()], -1)
    return RayBundle(origins=torch.zeros_like(directions), directions=directions, pixel_radii=torch.full_like(x, 1e-3))


@pytest.fixture(scope="session")
def slabs() -> type[Slabs]:
    return Slabs


@pytest.fixture(scope="session")
def rays_along() -> Callable[[Sequence[float]], RayBundle]:
    return make_rays
