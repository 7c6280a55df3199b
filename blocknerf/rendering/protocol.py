"""The interface between rendering and a field: a trained network or an exact analytic scene."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from blocknerf.cameras import RayBundle


@runtime_checkable
class Field(Protocol):
    """Density and color in world coordinates. Lengths are in world units, directions are unit vectors."""

    @property
    def appearance_dim(self) -> int:
        """Size of an appearance code."""

    @property
    def near(self) -> float:
        """Distance at which rays begin."""

    @property
    def far(self) -> float:
        """Distance at which rays end."""

    @property
    def linear_until(self) -> float:
        """Distance up to which samples are uniform in distance; beyond, they are uniform in inverse distance."""

    @property
    def num_samples(self) -> tuple[int, ...]:
        """Samples per ray of each proposal round, then of the field itself."""

    @property
    def proposal_density_fns(self) -> Sequence[Callable[[Tensor, Tensor], Tensor]]:
        """Density function of each proposal round: points `[rays samples 3]` and footprints `[rays samples]`."""

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        """Return density `[rays samples]` (per world unit) and features `[rays samples features]`."""

    def color(self, features: Tensor, directions: Tensor, code: Tensor) -> Tensor:
        """Return colors `[rays samples 3]` before exposure; directions and codes are per ray."""

    def sky(self, directions: Tensor, code: Tensor) -> Tensor:
        """Return the background colors `[rays 3]` before exposure."""

    def expose(self, color: Tensor, exposure: Tensor) -> Tensor:
        """Return the display colors `[rays 3]` in 0..1 of rays with composited colors `[rays 3]`."""

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        """Return the transmittance `[rays samples]` between the training cameras and points."""


@runtime_checkable
class SupportsRadiance(Protocol):
    """A field that evaluates density and color in one pass, faster than one after the other."""

    def radiance(
        self,
        points: Tensor,
        footprints: Tensor,
        directions: Tensor,
        code: Tensor,
        gradient_scale: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return density and `color` of samples; `gradient_scale` `[rays samples]` scales their gradients."""


@runtime_checkable
class SupportsMarching(Protocol):
    """A field with a fused ray marcher, faster than rendering through the `Field` interface."""

    def march(self, rays: RayBundle, code: Tensor, exposure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return display color `[rays 3]`, depth `[rays]` and opacity `[rays]` without gradients; codes are per ray."""
