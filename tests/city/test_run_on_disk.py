"""A run folder with small untrained fields, from its files to pictures; and each of its files broken."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture, write_capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City, with_rendering, write_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import BlockNerfError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import FILE, load_field, save_field
from blocknerf.fields.occupancy import OccupancyGrid, save_occupancy
from blocknerf.fields.spec import FieldSpec
from blocknerf.partition.frame_assignment import FrameAssignment, write_assignment
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
    # Codes as far apart as those of a trained field, so that taking the wrong one shows.
    torch.nn.init.normal_(field.appearance_codes, std=3.0)
    return field


@pytest.fixture
def run(route, tmp_path: Path) -> RunFolder:
    """Two trained blocks: f0 to f3 train the first, f2 to f5 the second; noon is f0 to f3."""
    folder, city = RunFolder(tmp_path / "run"), route(2)
    capture = Capture(image_dir=tmp_path, frames=tuple(make_frame(i) for i in range(6)), is_metric=True, source="test")
    write_capture(capture, folder.capture)
    write_city(city, folder.city)
    torch.manual_seed(0)
    for name, frames in (("b000", (0, 1, 2, 3)), ("b001", (2, 3, 4, 5))):
        membership = FrameAssignment(block=name, frames=frames, reasons=("position",) * len(frames))
        write_assignment(membership, capture, folder.frames(name))
        field = make_field(city, name, frames)
        save_field(field, folder.field(name), step=1, city=city.digest)
        full = OccupancyGrid(torch.ones(8, 8, 8, dtype=torch.bool), field.spec.origin, field.spec.half_extent)
        save_occupancy(full, folder.occupancy(name))
    return folder


def test_a_run_opens_alone_and_renders_the_reference_segment(run: RunFolder, view) -> None:
    camera = view((5.0, 0.0, 1.5), (9.0, 0.0, 1.0), size=6)
    renderer = CityRenderer(run, city=None)
    seen = renderer.render(camera)
    assert seen.color.shape == (6, 6, 3)
    assert sum(use.weight for use in seen.rendered) == pytest.approx(1.0)
    expected = torch.zeros(6, 6, 3)
    for use in seen.rendered:
        field = load_field(run.field(use.name))
        noon = [name for name in field.spec.frames if name in ("f0", "f1", "f2", "f3")]
        picture = render_image(field, camera.generate_rays(0), field.mean_appearance_code(noon), 0.25)
        expected += use.weight * picture.color
    torch.testing.assert_close(seen.color, expected, atol=1e-3, rtol=0.0)


def write_sparse_occupancy(run: RunFolder, name: str) -> None:
    spec = load_field(run.field(name)).spec
    cells = torch.zeros(8, 8, 8, dtype=torch.bool)
    cells[4] = True
    save_occupancy(OccupancyGrid(cells, spec.origin, spec.half_extent), run.occupancy(name))


def test_the_grid_of_what_is_empty_is_used_and_not_missed(run: RunFolder, route) -> None:
    load = block_loader(run, route(2))
    write_sparse_occupancy(run, "b000")
    assert int(load("b000").field.occupancy.binaries.sum()) == 64
    run.occupancy("b000").unlink()
    assert load("b000").field.occupancy is None


def test_the_grid_of_another_block_is_refused(run: RunFolder, route) -> None:
    shutil.copy(run.occupancy("b001"), run.occupancy("b000"))
    with pytest.raises(
        BlockNerfError, match=r"b000.occupancy\.safetensors: .* is not this field's.*; restore the file, or"
    ):
        block_loader(run, route(2))("b000")


def test_each_block_takes_its_own_bytes(run: RunFolder, route) -> None:
    write_sparse_occupancy(run, "b001")
    block = block_loader(run, route(2))("b001")
    numbers = sum(weight.numel() for weight in load_field(run.field("b001")).state_dict().values())
    assert block.bytes == 4 * (numbers + 3) + 8**3


def test_a_field_of_another_city_is_refused(run: RunFolder, route) -> None:
    with pytest.raises(
        BlockNerfError, match="was trained with other blocks, another preset or other held-out"
    ) as caught:
        block_loader(run, route(3))("b000")
    assert str(caught.value).endswith("; restore that city.json, or partition and train into a new run folder")


@pytest.mark.parametrize(
    "changes",
    [{"power": 1.0}, {"selection_radius": 3.0}, {"visibility_threshold": 0.1}, {"weighting": "nearest"}],
)
def test_a_setting_of_rendering_leaves_trained_blocks_good(
    run: RunFolder, changes: dict[str, Any], route, view
) -> None:
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
def test_a_broken_field_is_refused_in_one_line_naming_it(run: RunFolder, view, damage, message: str) -> None:
    damage(run.field("b001"))
    with pytest.raises(BlockNerfError, match=message) as caught:
        CityRenderer(run, allow_missing=True).render(view((5.0, 0.0, 1.5), (9.0, 0.0, 1.0), size=6))
    assert str(run.field("b001")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_untrained_block_is_named_with_its_file(run: RunFolder, view) -> None:
    run.field("b001").unlink()
    camera = view((5.0, 0.0, 1.5), (9.0, 0.0, 1.0), size=6)
    with pytest.raises(BlockNerfError, match=r"b001/field\.safetensors: block b001 is not trained; run"):
        CityRenderer(run).render(camera)
    assert [use.name for use in CityRenderer(run, allow_missing=True).render(camera).rendered] == ["b000"]
