"""The town as a radiance field: exact truth for whatever renders, culls, blends or matches fields."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.town.lighting import TIMES_OF_DAY, TimeOfDay, lighting_table
from blocknerf.town.rig import RIG, camera_pose, plan_drives, sample_positions
from blocknerf.town.town import FAR, Town, as_array, sky_radiance, tone_map

OPACITY = 12.0
"""Optical depth of one softness of solid: what is behind shines through by less than a part in a thousand."""
MARGIN, HAZE = 0.3, 0.2
"""Proposals see a haze of this density (1/m) within this distance (m) of solids: it draws samples to what is thin, and
is too faint to hide what lies behind. The margin is no wider than distances are exact."""
MAX_VIEW_ANGLE_COS = 0.5
"""Cosine of the angle up to which a camera counts as looking at a point from a given direction."""
VISIBILITY_DEPTH_TOLERANCE = 0.6
"""A camera sees points this far under the surface it sees (m)."""


class TownField:
    """A `Town` behind the protocol that rendering asks of a field.

    Its appearance code has one number for each of noon, dusk and overcast: the share of that hour's light, so that
    codes between them blend the light itself. Exposure is shutter time (ms) x ISO, as in a sample's frames.
    """

    appearance_dim = len(TIMES_OF_DAY)
    near = 0.1
    far = FAR
    linear_until = 40.0

    def __init__(
        self,
        town: Town,
        *,
        cameras: Float[Tensor, "cameras 3"] | None = None,
        softness: float = 0.02,
        num_samples: tuple[int, int, int] = (256, 128, 64),
    ) -> None:
        """Make a field of a town.

        Args:
            town: The town.
            cameras: Centers of the cameras that count as having seen it; without, those of a drive through it.
            softness: Depth under a surface at which solids are fully dense, where the footprint is smaller (m).
            num_samples: Samples a ray of the two proposal rounds and of the field.
        """
        self.town = town
        self.cameras = drive_cameras() if cameras is None else cameras
        self.surface_thickness = softness
        self.num_samples = num_samples
        self._lights = lighting_table()

    @property
    def proposal_density_fns(self) -> Sequence[Callable[[Tensor, Tensor], Tensor]]:
        """The solids in their haze, twice: the second round refines the first."""
        return (self._proposal, self._proposal)

    def code(self, hour: TimeOfDay) -> Float[Tensor, "codes"]:
        """The appearance code of an hour."""
        return torch.nn.functional.one_hot(torch.tensor(TIMES_OF_DAY.index(hour)), self.appearance_dim).float()

    def density(
        self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch features"]]:
        """Density (1/m), zero outside the solids and rising from their surface, and radiance under every light."""
        gaps, solids = self._measure(points)
        inside = as_array((gaps < 0).flatten()).astype(bool)
        features = np.zeros((len(inside), 3 * len(self._lights)))
        places, widths = as_array(points.reshape(-1, 3)), 2.0 * as_array(footprints.flatten())
        features[inside] = self.town.surface_radiance(places[inside], solids[inside], widths[inside], self._lights)
        return self._solidity(gaps, footprints), torch.from_numpy(features).to(points).reshape(*points.shape[:-1], -1)

    def color(
        self,
        features: Float[Tensor, "rays samples features"],
        directions: Float[Tensor, "rays 3"],
        code: Float[Tensor, "rays codes"],
        exposure: Float[Tensor, "rays"],
    ) -> Float[Tensor, "rays samples 3"]:
        """Photographed color; surfaces are matt, so directions do not matter."""
        by_light = features.unflatten(-1, (self.appearance_dim, 3))
        radiance = (by_light * code[:, None, :, None]).sum(-2)
        return tone_map(radiance * (exposure / 1000.0)[:, None, None])

    def sky(
        self, directions: Float[Tensor, "rays 3"], code: Float[Tensor, "rays codes"], exposure: Float[Tensor, "rays"]
    ) -> Float[Tensor, "rays 3"]:
        """Photographed color of the sky."""
        by_light = torch.from_numpy(sky_radiance(as_array(directions), self._lights)).to(directions)
        radiance = (by_light.unflatten(-1, (self.appearance_dim, 3)) * code[:, :, None]).sum(-2)
        return tone_map(radiance * (exposure / 1000.0)[:, None])

    def visibility(
        self, points: Float[Tensor, "rays samples 3"], directions: Float[Tensor, "rays 3"]
    ) -> Float[Tensor, "rays samples"]:
        """1 where a camera looks at the point along nearly this direction and nothing stands between, else 0."""
        from blocknerf.town.raycaster import visible_points

        flat = as_array(points.reshape(-1, 3))
        along = as_array(directions[:, None].expand(points.shape).reshape(-1, 3))
        seen = np.empty(len(flat))
        visible_points(
            self.town.scene, flat, along, as_array(self.cameras), MAX_VIEW_ANGLE_COS, VISIBILITY_DEPTH_TOLERANCE, seen
        )
        return torch.from_numpy(seen).to(points).reshape(points.shape[:-1])

    def _proposal(self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]) -> Tensor:
        gaps, _ = self._measure(points)
        # Softer than the field, so that the last samples lie where the field has long become opaque.
        blurred = self._solidity(gaps, 4.0 * footprints.clamp_min(self.surface_thickness))
        return blurred + HAZE * (1.0 - gaps / MARGIN).clamp(0.0, 1.0)

    def _solidity(self, gaps: Float[Tensor, "*batch"], footprints: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        softness = footprints.clamp_min(self.surface_thickness)
        return OPACITY / softness * (-gaps / softness).clamp(0.0, 1.0)

    def _measure(self, points: Float[Tensor, "*batch 3"]) -> tuple[Float[Tensor, "*batch"], np.ndarray]:
        from blocknerf.town.raycaster import closest_surface

        flat = as_array(points.reshape(-1, 3))
        gaps, solids = np.empty(len(flat)), np.empty(len(flat), np.int64)
        closest_surface(self.town.scene, flat, gaps, solids)
        return torch.from_numpy(gaps).to(points).reshape(points.shape[:-1]), solids


def drive_cameras(stops: int = 25) -> Float[Tensor, "cameras 3"]:
    """Camera centers of one drive along the main street."""
    places = sample_positions(plan_drives(1, "main")[0], stops)
    centers = [camera_pose(x, y, heading, mount)[:, 3] for x, y, heading, _ in places for mount in RIG]
    return torch.from_numpy(np.stack(centers)).float()
