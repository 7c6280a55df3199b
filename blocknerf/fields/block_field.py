"""The radiance field of one block."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.cameras import RayBundle
from blocknerf.fields.grid_network import GridNetwork, Network
from blocknerf.fields.occupancy import OccupancyGrid
from blocknerf.fields.spec import FieldSpec
from blocknerf.kernels.conditions import DIRECTION_FEATURES, EXPOSURE_FEATURES, encode_directions, encode_rays
from blocknerf.kernels.contraction import to_unit_cube
from blocknerf.kernels.hash_grid import GridSpec, unfit_grid
from blocknerf.kernels.marching import RadianceNetwork, march
from blocknerf.kernels.radiance import ColorLayers, radiance, unfit
from blocknerf.kernels.radiance.activations import density_of
from blocknerf.spacing import Spacing

CODE_RANGE = 0.01
"""Standard deviation of the appearance codes at the start of training."""


class BlockField(nn.Module):
    """Density, color, sky and visibility of one block (Tancik et al. 2022, section 4; hash grids in place of its MLPs).

    Satisfies the rendering protocol. Points and footprints are in world units; density is per world unit
    and depends on position alone, while direction, appearance code and exposure reach only the colors.
    """

    origin: Tensor

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__()
        self.spec = spec
        row_inputs = DIRECTION_FEATURES + spec.code_size + EXPOSURE_FEATURES
        self.base = GridNetwork(_main_grid(spec), [spec.hidden, spec.geometry_features])
        self.color_head = Network([spec.geometry_features, spec.hidden, spec.hidden, 3], row_inputs)
        self.sky_head = Network([row_inputs, spec.hidden, 3])
        self.proposals = nn.ModuleList([GridNetwork(_proposal_grid(spec), [16, 1])])
        self.visibility_net = GridNetwork(_visibility_grid(spec), [16, 1], DIRECTION_FEATURES)
        self.codes = nn.Parameter(CODE_RANGE * torch.randn(len(spec.frames), spec.code_size))
        self.register_buffer("origin", torch.tensor(spec.origin), persistent=False)
        self.occupancy: OccupancyGrid | None = None

    @property
    def code_size(self) -> int:
        return self.spec.code_size

    @property
    def near(self) -> float:
        return self.spec.near

    @property
    def far(self) -> float:
        return self.spec.far

    @property
    def knee(self) -> float:
        """Distance at which samples along rays turn from even in distance to even in inverse distance."""
        return self.spec.half_extent

    @property
    def sample_counts(self) -> tuple[int, ...]:
        """Samples a ray of each proposal round, then of the field."""
        return (self.spec.proposal_samples,) * len(self.proposals) + (self.spec.samples,)

    @property
    def proposal_densities(self) -> Sequence:
        """The cheap density functions that place samples."""
        return [partial(self._proposal_density, network) for network in self.proposals]

    @property
    def unfit(self) -> dict[str, dict[str, str]]:
        """What of this field is beyond a backend, by operation and backend (`kernels.backends.LIMITS`)."""
        form = unfit(self.base.layers, self._color_layers)
        return {"hash_grid": unfit_grid(self.base.grid), "radiance": form, "marching": form}

    def to_cube(
        self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
        """Points, and the spread of their cones, in the contracted unit cube that the grids live in, flattened."""
        # Levels fade by standard deviation, and a disc's is half its radius.
        spread = 0.5 * footprints.reshape(-1)
        return to_unit_cube(points.reshape(-1, 3), spread, self.spec.origin, self.spec.half_extent)

    def density(
        self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch features"]]:
        """Density at points, and the features their color depends on."""
        features = self.base(*self.to_cube(points, footprints)).view(*points.shape[:-1], self.spec.geometry_features)
        return self._to_density(features[..., 0]), features

    def color(
        self,
        features: Float[Tensor, "rays samples features"],
        directions: Float[Tensor, "rays 3"],
        code: Float[Tensor, "rays codes"],
        exposure: Float[Tensor, "rays"],
    ) -> Float[Tensor, "rays samples 3"]:
        """Colors in 0..1 of samples, as a photograph with that appearance and exposure would show them."""
        rows = self._row_inputs(directions, code, exposure)
        logits = self.color_head(features.reshape(-1, features.shape[-1]), rows)
        return torch.sigmoid(logits).view(*features.shape[:-1], 3)

    def radiance(
        self,
        points: Float[Tensor, "rays samples 3"],
        footprints: Float[Tensor, "rays samples"],
        directions: Float[Tensor, "rays 3"],
        code: Float[Tensor, "rays codes"],
        exposure: Float[Tensor, "rays"],
        fade: Float[Tensor, "rays samples"] | None = None,
    ) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples 3"]]:
        """`density` and `color` of samples in one pass; gradients of all that lies behind them are times `fade`."""
        cube, spread = self.to_cube(points, footprints)
        rows = cast(nn.Linear, self.color_head.row)(self._row_inputs(directions, code, exposure))
        fades = None if fade is None else fade.reshape(-1)
        extent = self.spec.half_extent
        density, color = radiance(
            self.base.layers, self._color_layers, cube, spread, rows, half_extent=extent, fade=fades
        )
        return density.view(footprints.shape), color.view(points.shape)

    def sky(
        self, directions: Float[Tensor, "rays 3"], code: Float[Tensor, "rays codes"], exposure: Float[Tensor, "rays"]
    ) -> Float[Tensor, "rays 3"]:
        """Colors in 0..1 of what lies behind everything."""
        return torch.sigmoid(self.sky_head(self._row_inputs(directions, code, exposure)))

    def visibility(
        self, points: Float[Tensor, "rays samples 3"], directions: Float[Tensor, "rays 3"]
    ) -> Float[Tensor, "rays samples"]:
        """Transmittance in 0..1 predicted between the training cameras and points along directions (section 4.2.2)."""
        cube, _ = self.to_cube(points, points.new_zeros(points.shape[:-1]))
        logits = self.visibility_net(cube, rows=encode_directions(directions))
        return torch.sigmoid(logits[:, 0]).view(points.shape[:-1])

    def mean_code(self, frames: Sequence[str] | None = None) -> Float[Tensor, "codes"]:
        """The average appearance code of the named training frames, or of all."""
        if frames is None:
            return self.codes.detach().mean(0)
        rows = [self.spec.frames.index(name) for name in frames]
        return self.codes.detach()[rows].mean(0)

    def skip_empty(self, occupancy: OccupancyGrid) -> None:
        """Leave out from now on, in `march`, what a grid says is empty.

        Raises:
            ValueError: The grid is of another block.
        """
        if (occupancy.origin, occupancy.half_extent) != (self.spec.origin, self.spec.half_extent):
            raise ValueError(f"its place {occupancy.origin} is not this field's, {self.spec.origin}")
        self.occupancy = occupancy

    @torch.no_grad()
    def march(
        self, rays: RayBundle, code: Float[Tensor, "rays codes"], exposure: Float[Tensor, "rays"]
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
        """Color in 0..1, depth and opacity along rays, in one pass from proposals to colors and without gradients."""
        rows = self._row_inputs(rays.directions, code, exposure)
        return march(
            self._network(), rays, cast(nn.Linear, self.color_head.row)(rows), torch.sigmoid(self.sky_head(rows))
        )

    def _network(self) -> RadianceNetwork:
        proposal_samples, samples = self.sample_counts
        return RadianceNetwork(
            proposal=cast(GridNetwork, self.proposals[0]).layers,
            field=self.base.layers,
            color=self._color_layers,
            origin=self.spec.origin,
            half_extent=self.spec.half_extent,
            spacing=Spacing(near=self.near, far=self.far, knee=self.knee),
            proposal_samples=proposal_samples,
            samples=samples,
            cells=None if self.occupancy is None else self.occupancy.cells,
        )

    def _proposal_density(self, network: nn.Module, points: Tensor, footprints: Tensor) -> Tensor:
        logits = network(*self.to_cube(points, footprints))
        return self._to_density(logits[:, 0]).view(footprints.shape)

    def _to_density(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return density_of(logits, self.spec.half_extent)

    @property
    def _color_layers(self) -> ColorLayers:
        weights, biases = self.color_head.parts
        return ColorLayers(weights=weights, biases=biases)

    def _row_inputs(self, directions: Tensor, code: Tensor, exposure: Tensor) -> Float[Tensor, "rays rows"]:
        return encode_rays(directions, code, exposure, self.spec.exposure_reference)


def _main_grid(spec: FieldSpec) -> GridSpec:
    return GridSpec(
        levels=spec.levels,
        features=spec.features,
        log2_table=spec.log2_table,
        base_resolution=spec.base_resolution,
        finest_resolution=spec.finest_resolution,
    )


def _proposal_grid(spec: FieldSpec) -> GridSpec:
    return GridSpec(
        levels=spec.proposal_levels,
        features=2,
        log2_table=spec.proposal_log2_table,
        base_resolution=16,
        finest_resolution=spec.proposal_finest_resolution,
    )


def _visibility_grid(spec: FieldSpec) -> GridSpec:
    return GridSpec(
        levels=4,
        features=2,
        log2_table=spec.visibility_log2_table,
        base_resolution=16,
        finest_resolution=spec.visibility_finest_resolution,
    )
