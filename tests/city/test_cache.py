"""Blocks in memory: least recently used leaves, and the budget holds."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from blocknerf.city.cache import BlockCache, LoadedBlock
from blocknerf.errors import RunError
from blocknerf.fields.occupancy import OccupancyGrid


def loader(box_scene, sizes: dict[str, int]) -> tuple[Callable[[str], LoadedBlock], list[str]]:
    """Blocks of so many float32 parameters each, and the record of what was loaded."""
    loaded: list[str] = []

    class Sized(nn.Module, box_scene):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(size))

    def load(name: str) -> LoadedBlock:
        loaded.append(name)
        return LoadedBlock(field=Sized(sizes[name]))

    return load, loaded


def test_bytes_are_parameters_and_buffers_with_those_of_the_grid(box_scene) -> None:
    field = loader(box_scene, {"a": 20})[0]("a").field
    field.register_buffer("origin", torch.zeros(3, dtype=torch.float16))
    field.occupancy = OccupancyGrid(torch.ones(4, 4, 4, dtype=torch.bool), (0.0, 0.0, 0.0), 1.0)
    assert LoadedBlock(field=field).bytes == 4 * 20 + 2 * 3 + 64
    assert LoadedBlock(field=box_scene([], [])).bytes == 0


def test_the_block_used_longest_ago_leaves(box_scene) -> None:
    load, loaded = loader(box_scene, dict.fromkeys("abc", 100))
    cache = BlockCache(load, 800)
    for name in "abacab":
        cache.get(name)
    assert loaded == ["a", "b", "c", "b"]
    assert cache.held_bytes == 800


def test_the_budget_holds_whatever_is_asked_for(box_scene) -> None:
    sizes = {f"b{i}": 10 + 37 * i % 91 for i in range(30)}
    cache = BlockCache(loader(box_scene, sizes)[0], 1000)
    for i in range(300):
        cache.get(f"b{i * 7 % 30}")
        assert cache.held_bytes <= 1000
        assert cache.held_bytes == sum(block.bytes for block in cache._blocks.values())


def test_a_block_larger_than_the_budget_is_refused_and_leaves_the_cache_as_it_was(box_scene) -> None:
    cache = BlockCache(loader(box_scene, {"small": 100, "large": 1 << 20})[0], 1 << 20)
    small = cache.get("small")
    with pytest.raises(RunError, match=r"block large: its field takes 4\.0 MiB, more than the 1\.0 MiB .*; give"):
        cache.get("large")
    assert cache.get("small") is small
    assert cache.held_bytes <= 1 << 20


def test_a_failed_load_is_not_remembered(box_scene) -> None:
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
