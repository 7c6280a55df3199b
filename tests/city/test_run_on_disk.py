"""A run folder with small untrained fields: rendering from its files, and each file broken."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import write_capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.appearance import NearbyExposures
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City, with_rendering, write_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import write_block_frames
from blocknerf.errors import BlockNerfError
from blocknerf.fields.block_field import BlockField, OccupancyGrid
from blocknerf.fields.checkpoint import FILE, load_field, save_field
from blocknerf.fields.footprint_floor import FootprintFloor
from blocknerf.fields.occupancy import save_occupancy
from blocknerf.fields.spec import FieldSpec
from blocknerf.partitioning.frame_assignment import FrameAssignment
from blocknerf.rendering.image import render_image
from tests.tensor_files import rewrite


def make_frame(index: int) -> Frame:
    return Frame(
        name=f"f{index}",
        image=f"f{index}.png",
        intrinsics=Intrinsics(width=8, height=8, fx=8.0, fy=8.0, cx=4.0, cy=4.0),
        camera_to_world=((1.0, 0.0, 0.0, float(index)), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
        segment="noon" if index < 4 else "dusk",
        camera="front",
        exposure=0.1 * (index + 1),
    )


def make_field(city: City, name: str, frames: tuple[int, ...]) -> BlockField:
    block = city.block(name)
    spec = FieldSpec(
        origin=block.origin,
        half_extent=block.radius,
        near=0.1,
        far=100.0,
        frames=tuple(f"f{i}" for i in frames),
        exposure_reference=0.3,
        num_levels=2,
        log2_hashmap_size=6,
        proposal_num_levels=2,
        proposal_log2_hashmap_size=6,
        num_proposal_samples=8,
        num_samples=8,
    )
    field = BlockField(spec)
    # Codes as different as those of a trained field, so that a wrong one is visible.
    torch.nn.init.normal_(field.appearance_codes, std=3.0)
    return field


@pytest.fixture
def run(route, tmp_path: Path) -> RunFolder:
    """Two trained blocks: f0 to f3 train the first, f2 to f5 the second; segment noon is f0 to f3."""
    folder, city = RunFolder(tmp_path / "run"), route(2)
    capture = Capture(image_dir=tmp_path, frames=tuple(make_frame(i) for i in range(6)), is_metric=True, source="test")
    write_capture(capture, folder.capture)
    write_city(city, folder.city)
    torch.manual_seed(0)
    for name, frames in (("b000", (0, 1, 2, 3)), ("b001", (2, 3, 4, 5))):
        assignment = FrameAssignment(block=name, frames=frames, reasons=("position",) * len(frames))
        write_block_frames(folder, [assignment], capture, city)
        field = make_field(city, name, frames)
        save_field(field, folder.field(name), step=1, city=city.digest)
        full = OccupancyGrid(torch.ones(8, 8, 8, dtype=torch.bool), field.spec.origin, field.spec.half_extent)
        save_occupancy(full, folder.occupancy(name))
    return folder


def test_run_folder_renders_the_reference_segment(run: RunFolder, view) -> None:
    camera = view((5.0, 0.0, 1.5), (9.0, 0.0, 1.0), size=6)
    renderer = CityRenderer(run, city=None)
    rendering = renderer.render(camera)
    assert rendering.color.shape == (6, 6, 3)
    assert sum(block.weight for block in rendering.rendered) == pytest.approx(1.0)
    expected = torch.zeros(6, 6, 3)
    nearby = NearbyExposures.of([make_frame(i) for i in range(4)])
    assert nearby is not None
    exposure = nearby.exposure_at(camera.centers[0])
    for block in rendering.rendered:
        field = load_field(run.field(block.name))
        noon = [name for name in field.spec.frames if name in ("f0", "f1", "f2", "f3")]
        block_rendering = render_image(field, camera.generate_rays(0), field.mean_appearance_code(noon), exposure)
        expected += block.weight * block_rendering.color
    torch.testing.assert_close(rendering.color, expected, atol=1e-3, rtol=0.0)


def write_sparse_occupancy(run: RunFolder, name: str) -> None:
    spec = load_field(run.field(name)).spec
    cells = torch.zeros(8, 8, 8, dtype=torch.bool)
    cells[4] = True
    save_occupancy(OccupancyGrid(cells, spec.origin, spec.half_extent), run.occupancy(name))


def test_occupancy_grid_is_optional(run: RunFolder, route) -> None:
    load = block_loader(run, route(2))
    write_sparse_occupancy(run, "b000")
    assert int(load("b000").field.occupancy.binaries.sum()) == 64
    run.occupancy("b000").unlink()
    assert load("b000").field.occupancy is None


def test_sharp_blocks_have_no_footprint_floor(run: RunFolder, route) -> None:
    field = load_field(run.field("b000"))
    field.footprint_floor = FootprintFloor(torch.full((4, 4, 4), 0.01))
    save_field(field, run.field("b000"), step=1, city=route(2).digest)
    assert block_loader(run, route(2))("b000").field.footprint_floor is not None
    assert block_loader(run, route(2), sharp=True)("b000").field.footprint_floor is None


def test_occupancy_grid_of_another_block_raises(run: RunFolder, route) -> None:
    shutil.copy(run.occupancy("b001"), run.occupancy("b000"))
    with pytest.raises(
        BlockNerfError, match=r"b000.occupancy\.safetensors: .* is not this field's.*; restore the file, or"
    ):
        block_loader(run, route(2))("b000")


def test_block_bytes_include_its_occupancy_grid(run: RunFolder, route) -> None:
    write_sparse_occupancy(run, "b001")
    block = block_loader(run, route(2))("b001")
    num_parameters = sum(weight.numel() for weight in load_field(run.field("b001")).state_dict().values())
    assert block.bytes == 4 * (num_parameters + 3) + 8**3


def test_field_of_another_city_raises(run: RunFolder, route) -> None:
    with pytest.raises(
        BlockNerfError, match="was trained with other blocks, another preset or other test frames"
    ) as caught:
        block_loader(run, route(3))("b000")
    assert str(caught.value).endswith("; restore that city.json, or partition and train into a new run folder")


@pytest.mark.parametrize(
    "changes",
    [{"power": 1.0}, {"selection_radius": 3.0}, {"visibility_threshold": 0.1}, {"weighting": "nearest"}],
)
def test_rendering_settings_keep_trained_blocks_valid(run: RunFolder, changes: dict[str, Any], route, view) -> None:
    write_city(with_rendering(route(2), **changes), run.city)
    assert CityRenderer(run).render(view((5.0, 0.0, 1.5), (9.0, 0.0, 1.0), size=6)).rendered


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def make_newer(path: Path) -> None:
    rewrite(FILE, path, format="blocknerf.field/9")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "message"), [(truncate, "not a readable"), (make_newer, "newer"), (make_empty, "not a readable")]
)
def test_broken_field_raises_one_line_with_its_path(run: RunFolder, view, damage, message: str) -> None:
    damage(run.field("b001"))
    with pytest.raises(BlockNerfError, match=message) as caught:
        CityRenderer(run, allow_missing=True).render(view((5.0, 0.0, 1.5), (9.0, 0.0, 1.0), size=6))
    assert str(run.field("b001")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_untrained_block_is_named_with_its_path(run: RunFolder, view) -> None:
    run.field("b001").unlink()
    camera = view((5.0, 0.0, 1.5), (9.0, 0.0, 1.0), size=6)
    with pytest.raises(BlockNerfError, match=r"b001/field\.safetensors: block b001 is not trained; run"):
        CityRenderer(run).render(camera)
    assert [block.name for block in CityRenderer(run, allow_missing=True).render(camera).rendered] == ["b000"]
