"""Every tensor is made where the field lies.

Within `torch.device("meta")`, a tensor that is made without saying where lies on no device, and whatever mixes it with
those of a field raises: as it would on a GPU.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle, look_at
from blocknerf.capture.pose_corrections import PoseCorrections
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city import overlaps
from blocknerf.city import renderer as module
from blocknerf.city.block_alignment import BlockAlignment
from blocknerf.city.cache import LoadedBlock
from blocknerf.city.manifest import City
from blocknerf.city.matching import match_codes
from blocknerf.city.nearby_exposures import NearbyExposures
from blocknerf.city.overlaps import adjacent_blocks, color_difference, find_overlaps
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.weighting import Weighting
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.rendering.appearance_fit import optimize_code
from blocknerf.rendering.image import predict_visibility, render_image, render_proposals

WEIGHTINGS: tuple[Weighting, ...] = (
    "nearest", "inverse_distance_2d", "inverse_distance_3d", "visibility_image", "visibility_pixel",
)  # fmt: skip


def field_at(x: float) -> BlockField:
    torch.manual_seed(int(x))
    spec = FieldSpec(
        origin=(x, 0.0, 0.0), half_extent=10.0, near=0.1, far=100.0, frames=("a.png", "b.png"), exposure_reference=1.0,
        num_levels=3, log2_hashmap_size=10, base_resolution=4, max_resolution=32, hidden_dim=16, appearance_dim=4, proposal_num_levels=2,
        proposal_log2_hashmap_size=8, proposal_max_resolution=32, visibility_log2_hashmap_size=7, visibility_max_resolution=16,
        num_proposal_samples=12, num_samples=8,
    )  # fmt: skip
    return BlockField(spec).requires_grad_(False)


@pytest.fixture
def blocks(route: Callable[..., City]) -> dict[str, BlockField]:
    return {block.name: field_at(block.origin[0]) for block in route(2).blocks}


@pytest.fixture
def nowhere(blocks: dict[str, BlockField]) -> Iterator[None]:
    """All that is made without saying where lies nowhere."""
    with torch.device("meta"):
        yield


def a_view() -> Cameras:
    eyes = torch.tensor([[4.0, 0.0, 1.0], [6.0, 0.5, 1.0], [5.0, -1.0, 1.0]], device="cpu")
    targets = torch.tensor([[20.0, 1.0, 1.0]], device="cpu").expand(3, 3)
    return Cameras.pinhole(look_at(eyes, targets), focal=8.0, width=13, height=10)


@pytest.mark.usefixtures("nowhere")
def test_pictures_are_made_where_the_field_lies(blocks: dict[str, BlockField]) -> None:
    field, cameras = blocks["b000"], a_view()
    picture = render_image(field, cameras.generate_rays(1), field.mean_appearance_code(), 1.0, plain=True)
    seen = render_proposals(field, cameras, 1)
    for image in (picture.color, picture.depth, picture.opacity, seen.visibility, predict_visibility(field, cameras)):
        assert image.device.type == "cpu"
        assert image.isfinite().all()


class Marcher(BlockField):
    """A field that tells colors from directions, where rays are given in patches."""

    def march(self, rays: RayBundle, code: Tensor, exposure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return rays.directions, exposure, rays.pixel_radii


def test_a_marching_field_is_given_its_rays_where_it_lies(blocks: dict[str, BlockField]) -> None:
    field, cameras = Marcher(blocks["b000"].spec), a_view()
    code = field.mean_appearance_code()
    with torch.device("meta"):
        picture = render_image(field, cameras.generate_rays(0), code, 1.0)
    assert torch.equal(picture.color, cameras.generate_rays(0).directions)


@pytest.mark.usefixtures("nowhere")
def test_codes_are_fitted_where_the_field_lies(blocks: dict[str, BlockField]) -> None:
    field, rays = blocks["b000"], a_view().generate_rays(0).flatten()
    code = optimize_code(field, rays, rays.directions.abs(), 1.0, start=field.mean_appearance_code(), steps=2)
    assert code.device.type == "cpu"
    assert code.isfinite().all()


@pytest.mark.usefixtures("nowhere")
def test_seams_are_found_and_matched_where_the_fields_lie(
    blocks: dict[str, BlockField], route: Callable[..., City], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlaps, "MIN_SHARED_VISIBILITY", -1.0)
    cameras = dict.fromkeys(blocks, a_view())
    (seam,) = find_overlaps(adjacent_blocks(route(2).blocks), cameras, blocks.__getitem__)
    known = {"b000": blocks["b000"].mean_appearance_code()}
    (found,) = match_codes(
        [seam], blocks.__getitem__, known, lambda name: [blocks[name].mean_appearance_code()], 1.0, steps=2
    )
    assert found.code.device.type == "cpu"
    assert math.isfinite(color_difference(seam, blocks.__getitem__, {**known, found.name: found.code}, 1.0))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.usefixtures("nowhere")
def test_the_city_is_put_together_where_its_fields_lie(
    blocks: dict[str, BlockField],
    route: Callable[..., City],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    weighting: Weighting,
) -> None:
    # The kernel that marches on a processor knows of no other place.
    monkeypatch.setattr(module, "render_image", partial(render_image, plain=True))
    moved = BlockAlignment(
        pose_corrections=PoseCorrections(),
        block_from_world=PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.1, 0.0, 0.0)),
    )
    city = replace(route(2), visibility_threshold=1e-6, weighting=weighting)
    renderer = CityRenderer(
        RunFolder(tmp_path), city=city, load=lambda name: LoadedBlock(field=blocks[name], alignment=moved)
    )
    picture = renderer.render(a_view(), 1, exposure=1.0)
    assert picture.color.device.type == picture.parts[0].weight.device.type == "cpu"
    assert {use.name for use in renderer.select(a_view()[0])} == {"b000", "b001"}


@pytest.mark.usefixtures("nowhere")
def test_exposures_of_surroundings_are_the_processors() -> None:
    center = torch.tensor([1.0, 0.0, 0.0], device="cpu")
    known = NearbyExposures(centers=center[None].double(), log2_exposure=center[:1].double())
    assert known.exposure_at(center) == 2.0


def test_a_block_counts_the_copies_of_its_tables_that_a_gpu_needs(blocks: dict[str, BlockField]) -> None:
    field = blocks["b000"]
    before, networks = LoadedBlock(field=field).bytes, (field.base, field.proposals[0], field.visibility_net)
    entries = sum(network.table.numel() for network in networks)
    assert LoadedBlock(field=field.to("meta")).bytes == before + 2 * entries
