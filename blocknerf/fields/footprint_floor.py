"""The finest footprints with which the training images of a block saw each place: a lower limit for rendering.

A rendering with smaller pixels than the training images, or from nearer, would show levels of the hash grid that no
training pixel constrained, as grain. This is the 3D smoothing filter of Mip-Splatting (Yu et al. 2024) for a grid.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocknerf.cameras import Cameras, frustum_corners
from blocknerf.fields.spec import FieldSpec
from blocknerf.geometry import uncontract
from blocknerf.kernels.contraction import contract_to_unit_cube

RESOLUTION = 64
"""Cells along each side of the contracted cube; a sixteenth of the block's radius, within the block."""
STORAGE = torch.bfloat16
"""Range matters more than precision: footprints differ by a factor of 10,000 within a block."""


class FootprintFloor(nn.Module):
    """The smallest standard deviation of samples, in lengths of the contracted unit cube, at the centers of cells."""

    min_std: Tensor

    def __init__(self, min_std: Float[Tensor, "x y z"]) -> None:
        super().__init__()
        self.register_buffer("min_std", min_std.to(STORAGE).float(), persistent=False)


@torch.no_grad()
def training_floor(spec: FieldSpec, cameras: Cameras, resolution: int = RESOLUTION) -> FootprintFloor:
    """Return the finest footprints of cameras, in the sizes and poses of training, in the cells of a block.

    Occlusion is ignored. Cells that no camera sees take the finest footprint of all cameras at that distance.
    """
    points, margins = _cells(spec, resolution, cameras.centers.device)
    columns = points.T.contiguous()
    # Distances d interpolated between centers h apart are too long by up to h^2 / (4 d), which matters near a camera.
    interpolation_error = 0.5 * (4.0 * spec.half_extent / resolution) ** 2
    squared_near, squared_radii = spec.near**2, cameras.pixel_radii.square()
    seen = torch.full_like(margins, torch.inf)
    unseen = seen.clone()
    for center, planes, squared_radius in zip(cameras.centers, _frustum_normals(cameras), squared_radii, strict=True):
        offsets = columns - center[:, None]
        squared_distances = (offsets.square().sum(0) - interpolation_error).clamp_min(squared_near)
        footprints = squared_distances * squared_radius
        first, second, third, fourth = planes @ offsets
        # A position between centers counts as seen if the centers around it do.
        inside = torch.minimum(torch.minimum(first, second), torch.minimum(third, fourth)) >= -margins
        seen = torch.where(inside, torch.minimum(seen, footprints), seen)
        unseen = torch.minimum(unseen, footprints)
    radii = torch.where(seen.isinf(), unseen, seen).sqrt()
    _, std = contract_to_unit_cube(points, 0.5 * radii, spec.origin, spec.half_extent)
    return FootprintFloor(std.view(resolution, resolution, resolution))


def _cells(
    spec: FieldSpec, resolution: int, device: torch.device
) -> tuple[Float[Tensor, "cells 3"], Float[Tensor, "cells"]]:
    """Return the centers of the cells of the contracted cube in the world, and the lengths of their diagonals.

    The cells count as cubes with the longest of their sides.
    """
    positions = (torch.arange(resolution, device=device) + 0.5) / resolution
    normalized = uncontract((torch.cartesian_prod(positions, positions, positions) - 0.5) * 4.0)
    # Away from the block, contraction shrinks lengths by up to 1 / n^2.
    expansion = normalized.abs().amax(-1).clamp_min(1.0).square()
    points = normalized * spec.half_extent + normalized.new_tensor(spec.origin)
    return points, expansion * (3.0**0.5 * 4.0 * spec.half_extent / resolution)


def _frustum_normals(cameras: Cameras) -> Float[Tensor, "cameras 4 3"]:
    """Return unit normals, inward, of the planes between the image corners; zeros for a lens of about 180 degrees."""
    corners = frustum_corners(cameras, 1.0) - cameras.centers[:, None]
    normals = torch.nn.functional.normalize(torch.linalg.cross(corners, corners.roll(-1, 1)), dim=-1)
    depths = (corners * cameras.camera_to_world[:, None, :, 2]).sum(-1)
    return torch.where((depths > 0.99).all(-1)[:, None, None], normals, 0.0)
