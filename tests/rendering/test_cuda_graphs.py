"""What is recorded, replayed and forgotten of small work, on a GPU that is not there."""

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blocknerf.cameras import RayBundle
from blocknerf.rendering.cuda_graphs import GraphedFunction
from tests.absent import stand_in


class Machine:
    """Does the work; what it does while a graph is recorded, that graph does again when it is replayed."""

    def __init__(self) -> None:
        self.recording: Any = None
        self.pools: list[Any] = []
        self.told: list[str] = []

    def work(self, module: nn.Linear, rays: RayBundle) -> tuple[Tensor, ...]:
        weight = module.weight.detach()  # as a graph knows where parameters are, and not whose

        def found() -> Tensor:
            return rays.directions @ weight[0] + rays.pixel_radii

        out = found()
        self.told.append("done" if self.recording is None else "recorded")
        if self.recording is not None:
            self.recording.replay = lambda: (self.told.append("replayed"), out.copy_(found()))
        return (out,)

    def graph(self) -> Any:
        graph = SimpleNamespace(pool=lambda: "the pool", capture_end=lambda: setattr(self, "recording", None))

        def begin(*, pool: Any, capture_error_mode: str) -> None:
            self.pools.append(pool)
            self.recording = graph

        graph.capture_begin = begin
        return graph


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    stand_in(monkeypatch, machine.graph)
    return machine


def rays(count: int, seed: int) -> RayBundle:
    generator = torch.Generator().manual_seed(seed)
    origins, directions = torch.rand(2, count, 3, generator=generator)
    return RayBundle(origins=origins, directions=directions, pixel_radii=torch.rand(count, generator=generator))


def test_other_rays_are_worked_on_by_the_same_graph(machine: Machine) -> None:
    recorded, module = GraphedFunction(machine.work), nn.Linear(3, 1)
    kept = []
    for seed in range(5):
        (found,) = recorded(module, rays(4, seed))
        kept.append(found)
        machine.told.append("next")
    # Done as it is, then once more on the stream that records, recorded, and replayed from then on.
    assert " ".join(machine.told).split(" next")[:4] == ["done", " done recorded replayed", " replayed", " replayed"]
    for seed, found in enumerate(kept):
        given = rays(4, seed)
        torch.testing.assert_close(found, given.directions @ module.weight.detach()[0] + given.pixel_radii)


def test_each_module_and_number_of_rays_has_its_own_graph_in_shared_memory(machine: Machine) -> None:
    recorded, modules = GraphedFunction(machine.work), [nn.Linear(3, 1), nn.Linear(3, 1)]
    for module in modules:
        for count in (4, 4, 6, 6):
            recorded(module, rays(count, 0))
    assert machine.pools == [None, "the pool", "the pool", "the pool"]


def test_memory_goes_with_the_last_module(machine: Machine) -> None:
    recorded = GraphedFunction(machine.work)
    for _ in range(2):
        module = nn.Linear(3, 1)
        for seed in range(3):
            recorded(module, rays(4, seed))
        del module
        gc.collect()
    assert machine.pools == [None, None]
    assert not recorded._graphs
