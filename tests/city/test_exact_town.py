"""Weightings against the ground truth of an analytic town: surface, distance and visibility of each pixel."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, look_at
from blocknerf.city.cache import LoadedBlock
from blocknerf.city.manifest import WEIGHTINGS, City
from blocknerf.city.renderer import CityRenderer, CityRendering
from blocknerf.city.run_folder import RunFolder
from blocknerf.partitioning.block import Block
from blocknerf.town.field import TownField, drive_cameras
from blocknerf.town.town import Town

CAMERAS = drive_cameras()
ORIGINS = {"west": (-9.0, -1.6, 2.3), "east": (9.0, -1.6, 2.3)}
CITY = City(blocks=tuple(Block(name=name, origin=at, radius=30.0) for name, at in ORIGINS.items()), power=2.0)
EXPOSURE = 700.0


@pytest.fixture(scope="module")
def fields() -> dict[str, TownField]:
    """Return two blocks of one town, each seen by its own half of the cameras."""
    town, counts = Town.build(0), (64, 48, 32)
    west = CAMERAS[:, 0] < 0.0
    return {
        "west": TownField(town, cameras=CAMERAS[west], num_samples=counts),
        "east": TownField(town, cameras=CAMERAS[~west], num_samples=counts),
    }


@pytest.fixture(scope="module")
def view() -> Cameras:
    """A view up the street from the west, of surfaces that the eastern cameras cannot see."""
    pose = look_at(torch.tensor([[-12.0, -1.6, 2.3]]), torch.tensor([[0.0, 0.0, 2.6]]))
    return Cameras.pinhole(pose, focal=12.0, width=20, height=12)


def show(
    fields: dict[str, TownField], view: Cameras, path: Path, weighting: str, hours: dict[str, str]
) -> CityRendering:
    """Render the city with a time of day for each block, without culling."""
    city = dataclasses.replace(CITY, visibility_threshold=0.0)
    renderer = CityRenderer(RunFolder(path), city=city, load=lambda name: LoadedBlock(field=fields[name]))
    codes = {name: fields[name].code(hour) for name, hour in hours.items()}
    return renderer.render(view, codes=codes, exposure=EXPOSURE, weighting=weighting)


def seen_points(fields: dict[str, TownField], view: Cameras) -> tuple[Tensor, Tensor]:
    """Return each pixel's true surface point, and whether its ray hits anything."""
    rays = view.generate_rays(0)
    depth = fields["west"].town.measure(rays)
    return rays.origins + depth.clamp(max=300.0)[..., None] * rays.directions, depth.isfinite()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_identical_blocks_blend_to_one_of_them(weighting: str, fields, view: Cameras, tmp_path: Path) -> None:
    rendering = show(fields, view, tmp_path, weighting, {"west": "noon", "east": "noon"})
    assert len(rendering.parts) == (1 if weighting == "nearest" else 2)
    torch.testing.assert_close(sum(part.weight for part in rendering.parts), torch.ones_like(rendering.depth))
    assert sum(block.weight for block in rendering.rendered) == pytest.approx(1.0)
    torch.testing.assert_close(rendering.color, rendering.parts[0].image.color, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("weighting", WEIGHTINGS[1:])
def test_different_blocks_are_blended_per_pixel(weighting: str, fields, view: Cameras, tmp_path: Path) -> None:
    rendering = show(fields, view, tmp_path, weighting, {"west": "noon", "east": "dusk"})
    expected = sum(part.weight[..., None] * part.image.color for part in rendering.parts)
    torch.testing.assert_close(rendering.color, expected)
    weight_std = float(rendering.parts[0].weight.std())
    assert (weight_std > 0.05) == (weighting in ("inverse_distance_3d", "visibility_pixel"))


def test_inverse_distance_3d_uses_the_true_surface(fields, view: Cameras, tmp_path: Path) -> None:
    rendering = show(fields, view, tmp_path, "inverse_distance_3d", {"west": "noon", "east": "noon"})
    points, solid = seen_points(fields, view)
    distances = torch.stack([(points - torch.tensor(ORIGINS[part.name])).norm(dim=-1) for part in rendering.parts])
    expected = distances**-2.0 / (distances**-2.0).sum(0)
    error = (torch.stack([part.weight for part in rendering.parts]) - expected).abs().amax(0)[solid]
    # Soft edges of a few pixels are between two surfaces.
    assert float(error.median()) < 0.01
    assert float((error < 0.05).float().mean()) > 0.85


def test_pixels_visible_to_one_block_use_that_block(fields, view: Cameras, tmp_path: Path) -> None:
    rendering = show(fields, view, tmp_path, "visibility_pixel", {"west": "noon", "east": "noon"})
    points, solid = seen_points(fields, view)
    directions = view.generate_rays(0).directions
    truth = torch.stack([_visible(fields[part.name], points, directions) for part in rendering.parts])
    visible_to_one = solid & (truth.sum(0) == 1.0)
    assert 10 < int(visible_to_one.sum()) < 230
    weights = torch.stack([part.weight for part in rendering.parts])
    true_weight = (weights * truth).sum(0)[visible_to_one]
    # Where several surfaces share a pixel, the blurred proposals mix visible and hidden ones.
    assert float(true_weight.median()) > 0.95
    assert float((true_weight > 0.9).float().mean()) > 0.7
    visible_to_both = solid & (truth.sum(0) == 2.0)
    assert float((weights[0][visible_to_both] - 0.5).abs().median()) < 0.1


def _visible(field: TownField, points: Tensor, directions: Tensor) -> Tensor:
    """Return whether the block's cameras saw the points, as one sample per ray."""
    return field.visibility(points.reshape(-1, 1, 3), directions.reshape(-1, 3)).view(points.shape[:-1])
