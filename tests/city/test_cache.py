"""Block cache: LRU eviction within the budget."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from blocknerf.city.cache import BlockCache, LoadedBlock
from blocknerf.errors import RunError
from blocknerf.fields.occupancy import OccupancyGrid


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
