"""The finest footprints of training cameras: values at known distances, and that training rays are not below them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle, look_at
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.footprint_floor import FootprintFloor, training_floor
from blocknerf.fields.spec import FieldSpec
from blocknerf.kernels.contraction import contract_to_unit_cube
from blocknerf.kernels.marching import raise_std
from blocknerf.rendering.image import render_image

ORIGIN, HALF = torch.tensor([10.0, -20.0, 2.0]), 5.0
TOLERANCE = 0.02
"""Relative error from storage in half the bits, and from interpolation."""


def camera(offset: tuple[float, float, float], target: tuple[float, float, float], width: int = 40) -> Cameras:
    """A camera of 90 degrees at an offset from the block's origin that looks at another."""
    eyes, targets = (ORIGIN + torch.tensor([part]) for part in (offset, target))
    return Cameras.pinhole(look_at(eyes, targets), focal=width / 2, width=width, height=width)


def floor_at(floor: FootprintFloor, offsets: Tensor) -> Tensor:
    """Return the floor as a radius in world units, at offsets from the origin within the block."""
    cube = offsets / (4.0 * HALF) + 0.5
    std = raise_std(torch.zeros(len(offsets)), cube, floor.min_std)
    return std * 2.0 * 4.0 * HALF


def test_the_floor_is_the_footprint_of_the_only_camera(tiny_spec: Callable[..., FieldSpec]) -> None:
    floor = training_floor(tiny_spec(), camera((-4.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    offsets = torch.tensor([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    expected = torch.tensor([4.0, 8.0, 65.0**0.5]) * 0.5 / 20
    torch.testing.assert_close(floor_at(floor, offsets), expected, rtol=TOLERANCE, atol=0.0)


def test_the_finest_camera_that_sees_a_place_counts(tiny_spec: Callable[..., FieldSpec]) -> None:
    """The finer camera looks away from +x, so there the coarser one counts."""
    coarse, fine = camera((-4.0, 0.0, 0.0), (4.0, 0.0, 0.0)), camera((0.0, 0.0, 0.0), (-4.0, 0.0, 0.0), width=160)
    floor = training_floor(tiny_spec(), Cameras.cat([coarse, fine]))
    seen_by_fine, seen_by_coarse = floor_at(floor, torch.tensor([[-3.0, 0.0, 0.0], [4.0, 0.0, 0.0]])).tolist()
    assert seen_by_fine == pytest.approx(min(3.0 * 0.5 / 80, 1.0 * 0.5 / 20), rel=TOLERANCE)
    assert seen_by_coarse == pytest.approx(8.0 * 0.5 / 20, rel=TOLERANCE)


def test_places_that_no_camera_sees_take_the_distance_to_the_finest(tiny_spec: Callable[..., FieldSpec]) -> None:
    floor = training_floor(tiny_spec(), camera((0.0, 0.0, 0.0), (4.0, 0.0, 0.0)))
    assert floor_at(floor, torch.tensor([[-4.0, 0.0, 0.0]])).item() == pytest.approx(4.0 * 0.5 / 20, rel=TOLERANCE)


def training_cameras() -> Cameras:
    generator = torch.Generator().manual_seed(0)
    eyes = ORIGIN + 3.0 * (2.0 * torch.rand(30, 3, generator=generator) - 1.0)
    targets = ORIGIN + 5.0 * (2.0 * torch.rand(30, 3, generator=generator) - 1.0)
    return Cameras.pinhole(look_at(eyes, targets), focal=30.0, width=40, height=24)


def samples(rays: RayBundle, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions in the cube and standard deviations at distances along rays."""
    points = rays.origins[:, None] + distances[:, None] * rays.directions[:, None]
    stds = 0.5 * distances * rays.pixel_radii[:, None]
    return contract_to_unit_cube(points.reshape(-1, 3), stds.reshape(-1), tuple(ORIGIN.tolist()), HALF)


def test_training_rays_are_at_or_above_the_floor(tiny_spec: Callable[..., FieldSpec]) -> None:
    """Except within a few cells of the camera, where interpolation is coarse; also far outside of the block."""
    cameras = training_cameras()
    floor = training_floor(tiny_spec(), cameras)
    for index in range(0, len(cameras), 5):
        cube, std = samples(cameras.generate_rays(index).flatten(), torch.tensor([1.0, 2.0, 5.0, 20.0, 300.0]))
        raised = raise_std(std, cube, floor.min_std)
        assert float((raised / std).max()) < 1.01


def test_fisheye_cameras_see_every_direction(tiny_spec: Callable[..., FieldSpec]) -> None:
    wide = camera((0.0, 0.0, 0.0), (4.0, 0.0, 0.0))
    wide.model.fill_(2)
    wide.intrinsics[:, :2] = 10.0
    floor = floor_at(training_floor(tiny_spec(), wide), torch.tensor([[-4.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))
    torch.testing.assert_close(floor, torch.full((2,), 4.0 * 0.5 / 10), rtol=TOLERANCE, atol=0.0)


@pytest.mark.parametrize("use_march", [True, False])
def test_a_finer_rendering_samples_as_the_training_images_did(
    tiny_field: Callable[..., BlockField], use_march: bool
) -> None:
    """At 8 times the size, with the floor, footprints are those of training; without it they are finer."""
    field = tiny_field().eval()
    cameras = training_cameras()[0]
    code, fine = torch.zeros(8), cameras.scaled(8.0).generate_rays()
    coarse_radii = RayBundle(
        origins=fine.origins, directions=fine.directions, pixel_radii=cameras.pixel_radii.expand(fine.pixel_radii.shape)
    )
    expected, sharp = (
        render_image(field, rays, code, 0.01, use_march=use_march).color for rays in (coarse_radii, fine)
    )
    field.footprint_floor = training_floor(field.spec, cameras)
    floored = render_image(field, fine, code, 0.01, use_march=use_march).color
    assert float((floored - expected).abs().mean()) < 0.1 * float((sharp - expected).abs().mean())
