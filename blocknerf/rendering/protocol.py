"""What rendering asks of a field, so that a trained network and an exact analytic scene render alike."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from blocknerf.cameras import RayBundle


@runtime_checkable
class Field(Protocol):
    """Density and color in world coordinates. Lengths are in world units, directions have length one."""

    @property
    def appearance_dim(self) -> int:
        """Numbers in an appearance code."""

    @property
    def near(self) -> float:
        """Where rays begin."""

    @property
    def far(self) -> float:
        """Where rays end."""

    @property
    def linear_until(self) -> float:
        """Where samples turn from even in distance to even in inverse distance."""

    @property
    def num_samples(self) -> tuple[int, ...]:
        """Samples a ray of each proposal round, then of the field itself."""

    @property
    def proposal_density_fns(self) -> Sequence[Callable[[Tensor, Tensor], Tensor]]:
        """Cheap densities of points `[rays samples 3]` with footprints `[rays samples]`, one a round."""

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        """Density `[rays samples]` (per world unit) and features `[rays samples features]`."""

    def color(self, features: Tensor, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        """Colors `[rays samples 3]` in 0..1; directions, codes and exposures are one a ray."""

    def sky(self, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        """Colors `[rays 3]` behind everything."""

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        """Transmittance `[rays samples]` between the training cameras and points."""


@runtime_checkable
class SupportsRadiance(Protocol):
    """A field that answers for density and color at once, in less time than one after the other."""

    def radiance(
        self,
        points: Tensor,
        footprints: Tensor,
        directions: Tensor,
        code: Tensor,
        exposure: Tensor,
        fade: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Density `[rays samples]` and color `[rays samples 3]`; their gradients are multiplied by `fade`."""


@runtime_checkable
class SupportsMarching(Protocol):
    """A field that follows rays to their colors by itself, in less time than it takes to ask what `Field` answers."""

    def march(self, rays: RayBundle, code: Tensor, exposure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Color `[rays 3]` in 0..1, depth `[rays]` and opacity `[rays]`, without gradients; one code a ray."""
