"""Scenes in closed form: what rendering gives can be worked out on paper."""

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
    """Layers of even fog across the x axis: `(start, end, density, color)`, not overlapping."""

    layers: Sequence[tuple[float, float, float, Color]]
    num_samples: tuple[int, ...] = (256, 256)
    appearance_dim: int = 3
    near: float = 0.05
    far: float = 100.0
    linear_until: float = 10.0
    proposed: Callable[[Tensor, Tensor], Tensor] | None = None
    """What the proposals say, in place of the truth."""
    evaluated: list[int] = field(default_factory=list)
    """Points asked for in each call of `density`."""

    @property
    def proposal_density_fns(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        return [self.proposed or (lambda points, footprints: self.exact(points))]

    def exact(self, points: Tensor) -> Tensor:
        x = points[..., 0]
        return sum(density * ((x >= start) & (x < end)) for start, end, density, _ in self.layers) + torch.zeros_like(x)

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        self.evaluated.append(footprints.numel())
        return self.exact(points), points

    def color(self, features: Tensor, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        """Each layer's own color, plus the code, times the exposure."""
        colors = torch.zeros_like(features)
        for start, end, _, color in self.layers:
            inside = (features[..., :1] >= start) & (features[..., :1] < end)
            colors = colors + inside * torch.tensor(color)
        return (colors + code[:, None]) * exposure[:, None, None]

    def sky(self, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        return (torch.tensor(SKY) + code) * exposure[:, None]

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        """Seen in training from far to the left: clear up to a skin behind the first surface."""
        return (points[..., 0] < self.layers[0][0] + 0.2).float()

    def expected(self, slope: float = 1.0) -> tuple[Tensor, float, float]:
        """Color, opacity and depth of a ray from the origin whose direction has `slope` as its x component."""
        color, depth, clear = torch.zeros(3), 0.0, 1.0
        for start, end, density, hue in self.layers:
            a, b = start / slope, end / slope
            passed = math.exp(-density * (b - a))
            color = color + clear * (1.0 - passed) * torch.tensor(hue)
            depth += clear * (a + 1.0 / density - (b + 1.0 / density) * passed)
            clear *= passed
        return color + clear * torch.tensor(SKY), 1.0 - clear, depth + clear * self.far


def make_rays(slopes: Sequence[float]) -> RayBundle:
    """Rays from the origin in the plane y = 0, with these x components of their unit directions."""
    x = torch.tensor(slopes)
    directions = torch.stack([x, torch.zeros_like(x), (1.0 - x * x).clamp_min(0.0).sqrt()], -1)
    return RayBundle(origins=torch.zeros_like(directions), directions=directions, pixel_radii=torch.full_like(x, 1e-3))


@pytest.fixture(scope="session")
def slabs() -> type[Slabs]:
    return Slabs


@pytest.fixture(scope="session")
def rays_along() -> Callable[[Sequence[float]], RayBundle]:
    return make_rays
