"""Loaded blocks: alignment with the world, and the cache."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from blocknerf.cameras import Cameras, look_at
from blocknerf.capture.pose_averaging import PoseAverage
from blocknerf.capture.pose_averaging_file import write_pose_average
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections, write_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.cache import BlockAlignment, BlockCache, LoadedBlock, load_alignments
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.block_field import OccupancyGrid

OWN, AVERAGED, OTHER = (PoseSegment(segment=name) for name in ("known", "common", "unknown"))
OWN_MOTION, AVERAGE_MOTION, BLOCK_FROM_WORLD = (
    PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(x, 0.0, 0.0)) for x in (1.0, 10.0, 100.0)
)


def corrections(segment: PoseSegment, motion: PivotTransform) -> PoseCorrections:
    return PoseCorrections(corrections=(PoseCorrection(pose_segment=segment, frames=3, motion=motion),))


def camera() -> Cameras:
    pose = look_at(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    return Cameras.pinhole(pose, focal=10.0, width=8, height=8)


def shift_of(alignment: BlockAlignment, segment: PoseSegment | None) -> float:
    return float(alignment.to_block_frame(camera(), segment).centers[0, 0])


def test_cameras_get_the_most_specific_correction() -> None:
    alignment = BlockAlignment(
        pose_corrections=corrections(OWN, OWN_MOTION),
        trajectory=corrections(AVERAGED, AVERAGE_MOTION),
        block_from_world=BLOCK_FROM_WORLD,
    )
    assert shift_of(alignment, OWN) == 1.0
    assert shift_of(alignment, AVERAGED) == 110.0
    assert shift_of(alignment, OTHER) == shift_of(alignment, None) == 100.0


def test_before_alignment_only_own_images_are_corrected() -> None:
    alignment = BlockAlignment(pose_corrections=corrections(OWN, OWN_MOTION))
    assert shift_of(alignment, OWN) == 1.0
    assert shift_of(alignment, AVERAGED) == shift_of(alignment, None) == 0.0


def test_load_alignments_of_a_partly_refined_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert load_alignments(run)("b000") is None
    write_corrections(corrections(OWN, OWN_MOTION), run.pose_corrections("b000"))
    assert load_alignments(run)("b000") == BlockAlignment(pose_corrections=corrections(OWN, OWN_MOTION))
    trajectory = corrections(AVERAGED, AVERAGE_MOTION)
    write_pose_average(
        PoseAverage(trajectory=trajectory, block_alignments={"b000": BLOCK_FROM_WORLD}, residuals=()), run.poses
    )
    load = load_alignments(run)
    assert load("b000") == BlockAlignment(
        pose_corrections=corrections(OWN, OWN_MOTION), trajectory=trajectory, block_from_world=BLOCK_FROM_WORLD
    )
    assert load("b001") is None


def make_loader(box_scene, sizes: dict[str, int]) -> tuple[Callable[[str], LoadedBlock], list[str]]:
    """Return a loader of blocks with these numbers of float32 parameters, and the log of loaded names."""
    loaded: list[str] = []

    class Sized(nn.Module, box_scene):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(size))

    def load(name: str) -> LoadedBlock:
        loaded.append(name)
        return LoadedBlock(field=Sized(sizes[name]))

    return load, loaded


def test_bytes_count_parameters_buffers_and_occupancy(box_scene) -> None:
    field = make_loader(box_scene, {"a": 20})[0]("a").field
    field.register_buffer("origin", torch.zeros(3, dtype=torch.float16))
    field.occupancy = OccupancyGrid(torch.ones(4, 4, 4, dtype=torch.bool), (0.0, 0.0, 0.0), 1.0)
    assert LoadedBlock(field=field).bytes == 4 * 20 + 2 * 3 + 64
    assert LoadedBlock(field=box_scene([], [])).bytes == 0


def test_least_recently_used_block_is_dropped(box_scene) -> None:
    load, loaded = make_loader(box_scene, dict.fromkeys("abc", 100))
    cache = BlockCache(load, 800)
    for name in "abacab":
        cache.get(name)
    assert loaded == ["a", "b", "c", "b"]
    assert cache.held_bytes == 800


def test_budget_is_never_exceeded(box_scene) -> None:
    sizes = {f"b{i}": 10 + 37 * i % 91 for i in range(30)}
    cache = BlockCache(make_loader(box_scene, sizes)[0], 1000)
    for i in range(300):
        cache.get(f"b{i * 7 % 30}")
        assert cache.held_bytes <= 1000
        assert cache.held_bytes == sum(block.bytes for block in cache._blocks.values())


def test_block_larger_than_the_budget_raises_and_keeps_the_cache(box_scene) -> None:
    cache = BlockCache(make_loader(box_scene, {"small": 100, "large": 1 << 20})[0], 1 << 20)
    small = cache.get("small")
    with pytest.raises(
        RunError, match=r"block large: its field takes 4\.0 MiB, more than .* 1\.0 MiB; enlarge the cache"
    ):
        cache.get("large")
    assert cache.get("small") is small
    assert cache.held_bytes <= 1 << 20


def test_failed_load_is_not_cached(box_scene) -> None:
    blocks: dict[str, LoadedBlock] = {}

    def load(name: str) -> LoadedBlock:
        if name not in blocks:
            raise FileNotFoundError(name)
        return blocks[name]

    cache = BlockCache(load, 1000)
    with pytest.raises(FileNotFoundError):
        cache.get("a")
    blocks["a"] = LoadedBlock(field=box_scene([], []))
    assert cache.get("a") is blocks["a"]
