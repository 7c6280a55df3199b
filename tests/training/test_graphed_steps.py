"""Which steps are recorded and which replayed, on a GPU that is not there."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blocknerf.training.graphed_steps import WARM_UP, GraphedSteps, StepVariant
from tests.absent import stand_in

LEARNING, RESTING = (
    StepVariant(trains_proposals=True, fades_levels=False),
    StepVariant(trains_proposals=False, fades_levels=False),
)


class Machine:
    """Keeps the seeds that steps are taken with; while it records, nothing is done but remembered."""

    def __init__(self) -> None:
        self.generator = torch.Generator()
        self.done: list[tuple[str, StepVariant, int]] = []
        self.recording: list[StepVariant] | None = None
        self.pools: list[Any] = []
        self.registered: list[Any] = []

    def take(self, kind: StepVariant) -> None:
        if self.recording is None:
            self.done.append(("taken", kind, self.generator.initial_seed()))
        else:
            self.recording.append(kind)

    def graph(self) -> Any:
        graph = SimpleNamespace(kinds=[], pool=lambda: "the pool", register_generator_state=self.registered.append)
        graph.replay = lambda: self.done.extend(("replayed", k, self.generator.initial_seed()) for k in graph.kinds)
        return graph

    @contextlib.contextmanager
    def record(self, graph: Any, *, pool: Any, **_: Any) -> Iterator[None]:
        self.pools.append(pool)
        self.recording = graph.kinds
        yield
        self.recording = None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    stand_in(monkeypatch, machine.graph)
    monkeypatch.setattr(torch.cuda, "graph", machine.record)
    return machine


def test_each_kind_is_taken_a_few_times_and_then_replayed(machine: Machine) -> None:
    steps = GraphedSteps(machine.take, machine.generator)
    order = [LEARNING] * (WARM_UP + 2) + [RESTING, LEARNING] * (WARM_UP + 2)
    for seed, kind in enumerate(order):
        steps.train_step(kind, seed)
    # Every step is done once, in its turn and with its seed: recording one leaves no trace.
    assert [(kind, seed) for _, kind, seed in machine.done] == [(kind, seed) for seed, kind in enumerate(order)]
    for kind in (LEARNING, RESTING):
        ways = [way for way, each, _ in machine.done if each == kind]
        assert ways == ["taken"] * WARM_UP + ["replayed"] * (len(ways) - WARM_UP)


def test_graphs_share_memory_and_draw_from_the_generator(machine: Machine) -> None:
    steps = GraphedSteps(machine.take, machine.generator)
    for kind in (LEARNING, RESTING):
        for seed in range(WARM_UP + 3):
            steps.train_step(kind, seed)
    assert machine.pools == [None, "the pool"]
    assert machine.registered == [machine.generator] * 2
