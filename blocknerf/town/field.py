"""The town as a radiance field: exact ground truth for rendering, culling, blending and matching."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.town.lighting import TIMES_OF_DAY, TimeOfDay, lighting_table
from blocknerf.town.rig import RIG, camera_pose, plan_drives, sample_positions
from blocknerf.town.town import FAR, Town, as_array, sky_radiance, tone_map

OPACITY = 12.0
"""Optical depth of one `surface_thickness` of solid; it transmits less than a thousandth."""
PROPOSAL_MARGIN, PROPOSAL_HAZE = 0.3, 0.2
"""Proposal densities add a haze of this density (1/m) within this distance (m) of solids. It attracts samples to thin
objects and is too faint to occlude. The margin is within the range of exact distances."""
MAX_VIEW_ANGLE_COS = 0.5
"""Cosine of the largest angle between a view direction and the ray from a camera that sees the point."""
VISIBILITY_DEPTH_TOLERANCE = 0.6
"""A camera sees points down to this depth below the visible surface (m)."""


class TownField:
    """A `Town` as a `Field` for rendering.

    Its appearance code has one weight for each of noon, dusk and overcast; other codes blend the radiance linearly.
    Exposure is shutter time (ms) x ISO, as in the frames of a sample.
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
        surface_thickness: float = 0.02,
        num_samples: tuple[int, int, int] = (256, 128, 64),
    ) -> None:
        """Create the field of a town.

        Args:
            town: The town.
            cameras: Centers of the cameras that saw it; default: those of one drive.
            surface_thickness: Depth below a surface at which solids reach full density, for smaller footprints (m).
            num_samples: Samples per ray of the two proposal rounds and of the field.
        """
        self.town = town
        self.cameras = drive_cameras() if cameras is None else cameras
        self.surface_thickness = surface_thickness
        self.num_samples = num_samples
        self._lightings = lighting_table()

    @property
    def proposal_density_fns(self) -> Sequence[Callable[[Tensor, Tensor], Tensor]]:
        """The hazy density, twice: the second round refines the first."""
        return (self._proposal, self._proposal)

    def code(self, hour: TimeOfDay) -> Float[Tensor, "codes"]:
        """Return the appearance code of a time of day."""
        return torch.nn.functional.one_hot(torch.tensor(TIMES_OF_DAY.index(hour)), self.appearance_dim).float()

    def density(
        self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch features"]]:
        """Return density (1/m), zero outside solids and rising below their surface, and radiance per lighting."""
        gaps, solids = self._distance(points)
        inside = as_array((gaps < 0).flatten()).astype(bool)
        features = np.zeros((len(inside), 3 * len(self._lightings)))
        positions, widths = as_array(points.reshape(-1, 3)), 2.0 * as_array(footprints.flatten())
        features[inside] = self.town.surface_radiance(
            positions[inside], solids[inside], widths[inside], self._lightings
        )
        return self._solid_density(gaps, footprints), torch.from_numpy(features).to(points).reshape(
            *points.shape[:-1], -1
        )

    def color(
        self,
        features: Float[Tensor, "rays samples features"],
        directions: Float[Tensor, "rays 3"],
        code: Float[Tensor, "rays codes"],
    ) -> Float[Tensor, "rays samples 3"]:
        """Return the radiance; surfaces are matte, so directions are ignored."""
        by_lighting = features.unflatten(-1, (self.appearance_dim, 3))
        return (by_lighting * code[:, None, :, None]).sum(-2)

    def sky(self, directions: Float[Tensor, "rays 3"], code: Float[Tensor, "rays codes"]) -> Float[Tensor, "rays 3"]:
        """Return the radiance of the sky."""
        by_lighting = torch.from_numpy(sky_radiance(as_array(directions), self._lightings)).to(directions)
        return (by_lighting.unflatten(-1, (self.appearance_dim, 3)) * code[:, :, None]).sum(-2)

    def expose(self, color: Float[Tensor, "rays 3"], exposure: Float[Tensor, "rays"]) -> Float[Tensor, "rays 3"]:
        """Return the tone-mapped color of a radiance."""
        return tone_map(color * (exposure / 1000.0)[:, None])

    def visibility(
        self, points: Float[Tensor, "rays samples 3"], directions: Float[Tensor, "rays 3"]
    ) -> Float[Tensor, "rays samples"]:
        """Return 1 if a camera sees the point from nearly this direction, else 0."""
        from blocknerf.town.raycaster import visible_points

        flat = as_array(points.reshape(-1, 3))
        view_directions = as_array(directions[:, None].expand(points.shape).reshape(-1, 3))
        visible = np.empty(len(flat))
        visible_points(
            self.town.scene,
            flat,
            view_directions,
            as_array(self.cameras),
            MAX_VIEW_ANGLE_COS,
            VISIBILITY_DEPTH_TOLERANCE,
            visible,
        )
        return torch.from_numpy(visible).to(points).reshape(points.shape[:-1])

    def _proposal(self, points: Float[Tensor, "*batch 3"], footprints: Float[Tensor, "*batch"]) -> Tensor:
        gaps, _ = self._distance(points)
        # Softer than the field, so that the last samples are where the field is already opaque.
        blurred = self._solid_density(gaps, 4.0 * footprints.clamp_min(self.surface_thickness))
        return blurred + PROPOSAL_HAZE * (1.0 - gaps / PROPOSAL_MARGIN).clamp(0.0, 1.0)

    def _solid_density(
        self, gaps: Float[Tensor, "*batch"], footprints: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        thickness = footprints.clamp_min(self.surface_thickness)
        return OPACITY / thickness * (-gaps / thickness).clamp(0.0, 1.0)

    def _distance(self, points: Float[Tensor, "*batch 3"]) -> tuple[Float[Tensor, "*batch"], np.ndarray]:
        from blocknerf.town.raycaster import closest_surface

        flat = as_array(points.reshape(-1, 3))
        gaps, solids = np.empty(len(flat)), np.empty(len(flat), np.int64)
        closest_surface(self.town.scene, flat, gaps, solids)
        return torch.from_numpy(gaps).to(points).reshape(points.shape[:-1]), solids


def drive_cameras(count: int = 25) -> Float[Tensor, "cameras 3"]:
    """Return the camera centers of one drive along the main street."""
    positions = sample_positions(plan_drives(1, "main")[0], count)
    centers = [camera_pose(x, y, heading, camera)[:, 3] for x, y, heading, _ in positions for camera in RIG]
    return torch.from_numpy(np.stack(centers)).float()
