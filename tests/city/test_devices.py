"""Every tensor is created on the device of the field.

Within `torch.device("meta")`, a tensor created without a device has no data, and an operation that mixes it with
tensors of a field raises, as it would on a GPU.
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
from blocknerf.city.appearance import NearbyExposures, prior_for_block
from blocknerf.city.cache import BlockAlignment, LoadedBlock
from blocknerf.city.manifest import City
from blocknerf.city.matching import match_codes
from blocknerf.city.overlaps import adjacent_blocks, color_difference, find_overlaps
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.weighting import Weighting
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.rendering.appearance_fit import cache_rays, optimize_code
from blocknerf.rendering.image import predict_visibility, render_image, render_proposals

WEIGHTINGS: tuple[Weighting, ...] = (
    "nearest", "inverse_distance_2d", "inverse_distance_3d", "visibility_image", "visibility_pixel",
)  # fmt: skip


def field_at(x: float) -> BlockField:
    torch.manual_seed(int(x))
    spec = FieldSpec(
        origin=(x, 0.0, 0.0), half_extent=10.0, near=0.1, far=100.0, frames=("a.png", "b.png"), exposure_reference=1.0,
        num_levels=3, log2_hashmap_size=10, base_resolution=4, max_resolution=32, hidden_dim=16, appearance_dim=4,
        proposal_num_levels=2, proposal_log2_hashmap_size=8, proposal_max_resolution=32, visibility_log2_hashmap_size=7,
        visibility_max_resolution=16, num_proposal_samples=12, num_samples=8,
    )  # fmt: skip
    return BlockField(spec).requires_grad_(False)


@pytest.fixture
def blocks(route: Callable[..., City]) -> dict[str, BlockField]:
    return {block.name: field_at(block.origin[0]) for block in route(2).blocks}


@pytest.fixture
def meta_default(blocks: dict[str, BlockField]) -> Iterator[None]:
    """Make the meta device the default of tensors created without a device."""
    with torch.device("meta"):
        yield


def make_cameras() -> Cameras:
    eyes = torch.tensor([[4.0, 0.0, 1.0], [6.0, 0.5, 1.0], [5.0, -1.0, 1.0]], device="cpu")
    targets = torch.tensor([[20.0, 1.0, 1.0]], device="cpu").expand(3, 3)
    return Cameras.pinhole(look_at(eyes, targets), focal=8.0, width=13, height=10)


@pytest.mark.usefixtures("meta_default")
def test_rendering_is_on_the_device_of_the_field(blocks: dict[str, BlockField]) -> None:
    field, cameras = blocks["b000"], make_cameras()
    rendering = render_image(field, cameras.generate_rays(1), field.mean_appearance_code(), 1.0, use_march=False)
    proposal = render_proposals(field, cameras, 1)
    for tensor in (
        rendering.color,
        rendering.depth,
        rendering.opacity,
        proposal.visibility,
        predict_visibility(field, cameras),
    ):
        assert tensor.device.type == "cpu"
        assert tensor.isfinite().all()


class Marcher(BlockField):
    """A field that returns directions as colors, for rays given in patches."""

    def march(self, rays: RayBundle, code: Tensor, exposure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return rays.directions, exposure, rays.pixel_radii


def test_march_gets_rays_on_the_device_of_the_field(blocks: dict[str, BlockField]) -> None:
    field, cameras = Marcher(blocks["b000"].spec), make_cameras()
    code = field.mean_appearance_code()
    with torch.device("meta"):
        rendering = render_image(field, cameras.generate_rays(0), code, 1.0)
    assert torch.equal(rendering.color, cameras.generate_rays(0).directions)


@pytest.mark.usefixtures("meta_default")
def test_codes_are_optimized_on_the_device_of_the_field(blocks: dict[str, BlockField]) -> None:
    field, rays = blocks["b000"], make_cameras().generate_rays(0).flatten()
    color_of, prior = partial(cache_rays(field, rays, 1.0).color, field), prior_for_block(field)
    code = optimize_code(color_of, rays.directions.abs(), prior=prior, steps=2)
    assert code.device.type == "cpu"
    assert code.isfinite().all()


@pytest.mark.usefixtures("meta_default")
def test_overlaps_are_matched_on_the_device_of_the_fields(
    blocks: dict[str, BlockField], route: Callable[..., City], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlaps, "MIN_SHARED_VISIBILITY", -1.0)
    cameras = dict.fromkeys(blocks, make_cameras())
    (overlap,) = find_overlaps(adjacent_blocks(route(2).blocks), cameras, blocks.__getitem__)
    known_codes = {"b000": blocks["b000"].mean_appearance_code()}
    (matched,) = match_codes(
        [overlap], blocks.__getitem__, known_codes, lambda name: [blocks[name].mean_appearance_code()], 1.0, steps=2
    )
    assert matched.code.device.type == "cpu"
    assert math.isfinite(
        color_difference(overlap, blocks.__getitem__, {**known_codes, matched.name: matched.code}, 1.0)
    )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.usefixtures("meta_default")
def test_city_is_composited_on_the_device_of_the_fields(
    blocks: dict[str, BlockField],
    route: Callable[..., City],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    weighting: Weighting,
) -> None:
    # The marching kernel of the CPU backend supports no other device.
    monkeypatch.setattr(module, "render_image", partial(render_image, use_march=False))
    alignment = BlockAlignment(
        pose_corrections=PoseCorrections(),
        block_from_world=PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.1, 0.0, 0.0)),
    )
    city = replace(route(2), visibility_threshold=1e-6, weighting=weighting)
    renderer = CityRenderer(
        RunFolder(tmp_path), city=city, load=lambda name: LoadedBlock(field=blocks[name], alignment=alignment)
    )
    rendering = renderer.render(make_cameras(), 1, exposure=1.0)
    assert rendering.color.device.type == rendering.parts[0].weight.device.type == "cpu"
    assert {block.name for block in renderer.select(make_cameras()[0])} == {"b000", "b001"}


@pytest.mark.usefixtures("meta_default")
def test_nearby_exposures_are_on_the_cpu() -> None:
    center = torch.tensor([1.0, 0.0, 0.0], device="cpu")
    exposures = NearbyExposures(centers=center[None].double(), log2_exposure=center[:1].double())
    assert exposures.exposure_at(center) == 2.0


def test_block_bytes_include_half_tables_on_a_gpu(blocks: dict[str, BlockField]) -> None:
    field = blocks["b000"]
    before, networks = LoadedBlock(field=field).bytes, (field.base, field.proposals[0], field.visibility_net)
    entries = sum(network.table.numel() for network in networks)
    assert LoadedBlock(field=field.to("meta")).bytes == before + 2 * entries
