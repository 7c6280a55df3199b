"""The radiance field of one block."""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from blocknerf.cameras import RayBundle
from blocknerf.fields.footprint_floor import FootprintFloor
from blocknerf.fields.hash_grid_mlp import MLP, HashGridMLP
from blocknerf.fields.spec import FieldSpec
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.contraction import contract_to_unit_cube
from blocknerf.kernels.hash_grid import GridSpec, unfit_grid
from blocknerf.kernels.marching import FieldParams, march, raise_std
from blocknerf.kernels.radiance import ColorParams, radiance, trunc_exp_density, unfit
from blocknerf.kernels.ray_encoding import DIRECTION_FEATURES, encode_directions, encode_ray_inputs

APPEARANCE_INIT_STD = 0.01
"""Standard deviation of the initial appearance codes; below that of trained codes, 0.01 to 0.02."""
RESPONSE_INIT = 1.0 / 2.2
"""Stops by which a display value rises for one stop more exposure, before training: that of a gamma of 2.2."""
MAX_STOPS = 32.0
"""Exposures count as at most this many stops from the reference, so that gains stay finite."""
SMALL_GRID_HIDDEN, SMALL_GRID_FEATURES, SMALL_GRID_BASE = 16, 2, 16
"""Hidden width, features per level and base resolution of the proposal and visibility grids, as in nerfacto."""
VISIBILITY_LEVELS = 4
"""Levels of the visibility grid: one fewer than for proposals, since its resolution is half as high."""


class OccupancyGrid(nn.Module):
    """Occupied cells of the contracted cube of a block."""

    binaries: Tensor

    def __init__(self, cells: Bool[Tensor, "x y z"], origin: tuple[float, float, float], half_extent: float) -> None:
        super().__init__()
        self.origin, self.half_extent = origin, half_extent
        self.register_buffer("binaries", cells, persistent=False)

    @property
    def occupied_fraction(self) -> float:
        """Fraction of occupied cells."""
        return float(self.binaries.float().mean())


class BlockField(nn.Module):
    """Density, color, sky and visibility of one block (Tancik et al. 2022, section 4; hash grids in place of its MLPs).

    Implements the rendering protocol. Points and footprints are in world units. Density is per world unit and depends
    on position alone; direction and appearance code affect only the colors. Exposure acts on the color of a ray, as a
    gain with a learned response.
    """

    origin: Tensor

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__()
        self.spec = spec
        num_ray_inputs = DIRECTION_FEATURES + spec.appearance_dim
        self.base = HashGridMLP(_main_grid(spec), [spec.hidden_dim, spec.geo_feat_dim])
        self.color_head = MLP([spec.geo_feat_dim, spec.hidden_dim, spec.hidden_dim, 3], num_ray_inputs)
        self.sky_head = MLP([num_ray_inputs, spec.hidden_dim, 3])
        self.proposals = nn.ModuleList([HashGridMLP(_proposal_grid(spec), [SMALL_GRID_HIDDEN, 1])])
        self.visibility_net = HashGridMLP(_visibility_grid(spec), [SMALL_GRID_HIDDEN, 1], DIRECTION_FEATURES)
        self.appearance_codes = nn.Parameter(APPEARANCE_INIT_STD * torch.randn(len(spec.frames), spec.appearance_dim))
        self.log_response = nn.Parameter(torch.full((1,), math.log(RESPONSE_INIT)))
        """Logarithm of the stops of display value per stop of exposure; one for all channels, so that hues stay."""
        self.register_buffer("origin", torch.tensor(spec.origin), persistent=False)
        self.occupancy: OccupancyGrid | None = None
        self.footprint_floor: FootprintFloor | None = None
        """The finest footprints of training; set after training, so that rendering samples no finer."""

    @property
    def appearance_dim(self) -> int:
        return self.spec.appearance_dim

    @property
    def near(self) -> float:
        return self.spec.near

    @property
    def far(self) -> float:
        return self.spec.far

    @property
    def linear_until(self) -> float:
        """Distance up to which samples are uniform in distance; beyond, they are uniform in inverse distance."""
        return self.spec.half_extent

    @property
    def num_samples(self) -> tuple[int, ...]:
        """Samples per ray of each proposal round, then of the field."""
        return (self.spec.num_proposal_samples,) * len(self.proposals) + (self.spec.num_samples,)

    @property
    def proposal_density_fns(self) -> Sequence:
        """Density functions of the proposal networks, which place the samples."""
        return [partial(self._proposal_density, network) for network in self.proposals]

    @property
    def unfit(self) -> dict[str, dict[str, str]]:
        """Why a backend cannot run this field, by operation and backend (`kernels.backends.LIMITS`)."""
        reasons = unfit(self.base.layers, self._color_layers)
        return {"hash_grid": unfit_grid(self.base.grid), "radiance": reasons, "marching": reasons}

    def contract_to_unit_cube(
        self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
        """Map points and footprints to the contracted unit cube; return flat points and standard deviations.

        Footprints are cone radii. Grid levels are faded by the standard deviation, which is half the radius of a disc.
        """
        std = 0.5 * footprints.reshape(-1)
        cube, std = contract_to_unit_cube(points.reshape(-1, 3), std, self.spec.origin, self.spec.half_extent)
        return cube, std if self.footprint_floor is None else raise_std(std, cube, self.footprint_floor.min_std)

    def density(
        self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch features"]]:
        """Return density at points, and the features that determine their color."""
        features = self.base(*self.contract_to_unit_cube(points, footprints)).view(
            *points.shape[:-1], self.spec.geo_feat_dim
        )
        return self._to_density(features[..., 0]), features

    def color(
        self,
        features: Float[Tensor, "rays samples features"],
        directions: Float[Tensor, "rays 3"],
        code: Float[Tensor, "rays codes"],
    ) -> Float[Tensor, "rays samples 3"]:
        """Return colors 0..1 of samples under the given appearance, at the reference exposure."""
        ray_inputs = encode_ray_inputs(directions, code)
        logits = self.color_head(features.reshape(-1, features.shape[-1]), ray_inputs)
        return torch.sigmoid(logits).view(*features.shape[:-1], 3)

    def radiance(
        self,
        points: Float[Tensor, "rays samples 3"],
        footprints: Float[Tensor, "rays samples"],
        directions: Float[Tensor, "rays 3"],
        code: Float[Tensor, "rays codes"],
        gradient_scale: Float[Tensor, "rays samples"] | None = None,
    ) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples 3"]]:
        """Return `density` and `color` of samples in one pass; `gradient_scale` scales their gradients."""
        cube, std = self.contract_to_unit_cube(points, footprints)
        bias = cast(nn.Linear, self.color_head.ray_layer)(encode_ray_inputs(directions, code))
        flat_scale = None if gradient_scale is None else gradient_scale.reshape(-1)
        extent = self.spec.half_extent
        density, color = radiance(
            self.base.layers, self._color_layers, cube, std, bias, half_extent=extent, gradient_scale=flat_scale
        )
        return density.view(footprints.shape), color.view(points.shape)

    def sky(self, directions: Float[Tensor, "rays 3"], code: Float[Tensor, "rays codes"]) -> Float[Tensor, "rays 3"]:
        """Return background colors 0..1, at the reference exposure."""
        return torch.sigmoid(self.sky_head(encode_ray_inputs(directions, code)))

    def expose(self, color: Float[Tensor, "rays 3"], exposure: Float[Tensor, "rays"]) -> Float[Tensor, "rays 3"]:
        """Return display colors 0..1 at an exposure from those at the reference exposure.

        A color c is the response to the light c / (1 - c): it saturates toward white, as a sensor does. Exposure
        multiplies the light. How many stops of it one stop of exposure is worth is learned, since display values are
        not linear in light.
        """
        stops = (exposure.clamp_min(1e-12) / self.spec.exposure_reference).log2().clamp(-MAX_STOPS, MAX_STOPS)
        gain = torch.exp2(stops * self.log_response.exp())[:, None]
        return gain * color / (1.0 + (gain - 1.0) * color)

    def visibility(
        self, points: Float[Tensor, "rays samples 3"], directions: Float[Tensor, "rays 3"]
    ) -> Float[Tensor, "rays samples"]:
        """Predict the transmittance 0..1 between the training cameras and points along directions (section 4.2.2)."""
        cube, _ = self.contract_to_unit_cube(points, points.new_zeros(points.shape[:-1]))
        logits = self.visibility_net(cube, ray_inputs=encode_directions(directions))
        return torch.sigmoid(logits[:, 0]).view(points.shape[:-1])

    def mean_appearance_code(self, frames: Sequence[str] | None = None) -> Float[Tensor, "codes"]:
        """Return the mean appearance code of the named training frames, or of all."""
        if frames is None:
            return self.appearance_codes.detach().mean(0)
        indices = [self.spec.frames.index(name) for name in frames]
        return self.appearance_codes.detach()[indices].mean(0)

    def set_occupancy(self, occupancy: OccupancyGrid) -> None:
        """Skip the empty cells of a grid in `march` from now on.

        Raises:
            ValueError: the grid belongs to another block.
        """
        if (occupancy.origin, occupancy.half_extent) != (self.spec.origin, self.spec.half_extent):
            raise ValueError(f"its origin {occupancy.origin} is not this field's, {self.spec.origin}")
        self.occupancy = occupancy

    @torch.no_grad()
    def march(
        self, rays: RayBundle, code: Float[Tensor, "rays codes"], exposure: Float[Tensor, "rays"]
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
        """Return color 0..1, depth and opacity along rays, in one fused pass without gradients."""
        inputs = encode_ray_inputs(rays.directions, code)
        bias = cast(nn.Linear, self.color_head.ray_layer)(inputs)
        color, depth, opacity = march(self._field_params(), rays, bias, torch.sigmoid(self.sky_head(inputs)))
        return self.expose(color, exposure), depth, opacity

    def _field_params(self) -> FieldParams:
        proposal_samples, samples = self.num_samples
        return FieldParams(
            proposal=cast(HashGridMLP, self.proposals[0]).layers,
            field=self.base.layers,
            color=self._color_layers,
            origin=self.spec.origin,
            half_extent=self.spec.half_extent,
            spacing=RaySpacing(near=self.near, far=self.far, linear_until=self.linear_until),
            proposal_samples=proposal_samples,
            samples=samples,
            occupancy=None if self.occupancy is None else self.occupancy.binaries,
            min_std=None if self.footprint_floor is None else self.footprint_floor.min_std,
        )

    def _proposal_density(self, network: nn.Module, points: Tensor, footprints: Tensor) -> Tensor:
        logits = network(*self.contract_to_unit_cube(points, footprints))
        return self._to_density(logits[:, 0]).view(footprints.shape)

    def _to_density(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return trunc_exp_density(logits, self.spec.half_extent)

    @property
    def _color_layers(self) -> ColorParams:
        weights, biases = self.color_head.weights_and_biases
        return ColorParams(weights=weights, biases=biases)


def _main_grid(spec: FieldSpec) -> GridSpec:
    return GridSpec(
        num_levels=spec.num_levels,
        features_per_level=spec.features_per_level,
        log2_hashmap_size=spec.log2_hashmap_size,
        base_resolution=spec.base_resolution,
        max_resolution=spec.max_resolution,
    )


def _proposal_grid(spec: FieldSpec) -> GridSpec:
    return GridSpec(
        num_levels=spec.proposal_num_levels,
        features_per_level=SMALL_GRID_FEATURES,
        log2_hashmap_size=spec.proposal_log2_hashmap_size,
        base_resolution=SMALL_GRID_BASE,
        max_resolution=spec.proposal_max_resolution,
    )


def _visibility_grid(spec: FieldSpec) -> GridSpec:
    return GridSpec(
        num_levels=VISIBILITY_LEVELS,
        features_per_level=SMALL_GRID_FEATURES,
        log2_hashmap_size=spec.visibility_log2_hashmap_size,
        base_resolution=SMALL_GRID_BASE,
        max_resolution=spec.visibility_max_resolution,
    )
