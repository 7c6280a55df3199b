"""Weightings against the truth of an exact town: what each pixel shows, how far it is, and who could see it."""

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
from blocknerf.partition.block import Block
from blocknerf.town.field import TownField, drive_cameras
from blocknerf.town.town import Town

DRIVE = drive_cameras()
ORIGINS = {"west": (-9.0, -1.6, 2.3), "east": (9.0, -1.6, 2.3)}
CITY = City(blocks=tuple(Block(name=name, origin=at, radius=30.0) for name, at in ORIGINS.items()), power=2.0)
EXPOSURE = 700.0


@pytest.fixture(scope="module")
def fields() -> dict[str, TownField]:
    """One town as two blocks know it: each was seen from its own half of the drive."""
    town, counts = Town.build(0), (64, 48, 32)
    west = DRIVE[:, 0] < 0.0
    return {
        "west": TownField(town, cameras=DRIVE[west], num_samples=counts),
        "east": TownField(town, cameras=DRIVE[~west], num_samples=counts),
    }


@pytest.fixture(scope="module")
def view() -> Cameras:
    """Up the street from its west, whence much can be seen that those who look from the east cannot."""
    pose = look_at(torch.tensor([[-12.0, -1.6, 2.3]]), torch.tensor([[0.0, 0.0, 2.6]]))
    return Cameras.pinhole(pose, focal=12.0, width=20, height=12)


def show(
    fields: dict[str, TownField], view: Cameras, path: Path, weighting: str, hours: dict[str, str]
) -> CityRendering:
    """The city at an hour for each block, without culling."""
    city = dataclasses.replace(CITY, visibility_threshold=0.0)
    renderer = CityRenderer(RunFolder(path), city=city, load=lambda name: LoadedBlock(field=fields[name]))
    codes = {name: fields[name].code(hour) for name, hour in hours.items()}
    return renderer.render(view, codes=codes, exposure=EXPOSURE, weighting=weighting)


def seen_points(fields: dict[str, TownField], view: Cameras) -> tuple[Tensor, Tensor]:
    """Where each pixel's ray truly ends, and whether it meets anything."""
    rays = view.generate_rays(0)
    depth = fields["west"].town.measure(rays)
    return rays.origins + depth.clamp(max=300.0)[..., None] * rays.directions, depth.isfinite()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_blocks_that_agree_show_what_one_shows(weighting: str, fields, view: Cameras, tmp_path: Path) -> None:
    seen = show(fields, view, tmp_path, weighting, {"west": "noon", "east": "noon"})
    assert len(seen.parts) == (1 if weighting == "nearest" else 2)
    torch.testing.assert_close(sum(part.weight for part in seen.parts), torch.ones_like(seen.depth))
    assert sum(use.weight for use in seen.rendered) == pytest.approx(1.0)
    torch.testing.assert_close(seen.color, seen.parts[0].image.color, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("weighting", WEIGHTINGS[1:])
def test_blocks_that_differ_are_blended_pixel_by_pixel(weighting: str, fields, view: Cameras, tmp_path: Path) -> None:
    seen = show(fields, view, tmp_path, weighting, {"west": "noon", "east": "dusk"})
    by_hand = sum(part.weight[..., None] * part.image.color for part in seen.parts)
    torch.testing.assert_close(seen.color, by_hand)
    spread = float(seen.parts[0].weight.std())
    assert (spread > 0.05) == (weighting in ("inverse_distance_3d", "visibility_pixel"))


def test_the_third_dimension_is_that_of_the_true_surface(fields, view: Cameras, tmp_path: Path) -> None:
    seen = show(fields, view, tmp_path, "inverse_distance_3d", {"west": "noon", "east": "noon"})
    points, solid = seen_points(fields, view)
    far = torch.stack([(points - torch.tensor(ORIGINS[part.name])).norm(dim=-1) for part in seen.parts])
    expected = far**-2.0 / (far**-2.0).sum(0)
    wrong = (torch.stack([part.weight for part in seen.parts]) - expected).abs().amax(0)[solid]
    # Soft edges of a few pixels lie between two surfaces.
    assert float(wrong.median()) < 0.01
    assert float((wrong < 0.05).float().mean()) > 0.85


def test_pixels_that_one_block_alone_saw_are_its_own(fields, view: Cameras, tmp_path: Path) -> None:
    seen = show(fields, view, tmp_path, "visibility_pixel", {"west": "noon", "east": "noon"})
    points, solid = seen_points(fields, view)
    directions = view.generate_rays(0).directions
    truth = torch.stack([_visible(fields[part.name], points, directions) for part in seen.parts])
    alone = solid & (truth.sum(0) == 1.0)
    assert 10 < int(alone.sum()) < 230
    weights = torch.stack([part.weight for part in seen.parts])
    right = (weights * truth).sum(0)[alone]
    # Where several surfaces share a pixel, the blurred proposals mix what was seen with what was not.
    assert float(right.median()) > 0.95
    assert float((right > 0.9).float().mean()) > 0.7
    both = solid & (truth.sum(0) == 2.0)
    assert float((weights[0][both] - 0.5).abs().median()) < 0.1


def _visible(field: TownField, points: Tensor, directions: Tensor) -> Tensor:
    """Whether the block's cameras saw the points, as one sample a ray."""
    return field.visibility(points.reshape(-1, 1, 3), directions.reshape(-1, 3)).view(points.shape[:-1])
