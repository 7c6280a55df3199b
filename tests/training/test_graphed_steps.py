"""Capture and replay of steps as CUDA graphs, with a fake GPU."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blocknerf.training.graphed_steps import WARM_UP, GraphedSteps, StepVariant
from tests.absent import stand_in

WITH_PROPOSALS, WITHOUT_PROPOSALS = (
    StepVariant(trains_proposals=True, fades_levels=False),
    StepVariant(trains_proposals=False, fades_levels=False),
)


class FakeGpu:
    """Records each step with its seed; during capture, steps are only stored in the graph."""

    def __init__(self) -> None:
        self.generator = torch.Generator()
        self.executed: list[tuple[str, StepVariant, int]] = []
        self.captured: list[StepVariant] | None = None
        self.pools: list[Any] = []
        self.registered: list[Any] = []

    def step(self, variant: StepVariant) -> None:
        if self.captured is None:
            self.executed.append(("eager", variant, self.generator.initial_seed()))
        else:
            self.captured.append(variant)

    def graph(self) -> Any:
        graph = SimpleNamespace(variants=[], pool=lambda: "the pool", register_generator_state=self.registered.append)
        graph.replay = lambda: self.executed.extend(
            ("replay", v, self.generator.initial_seed()) for v in graph.variants
        )
        return graph

    @contextlib.contextmanager
    def capture(self, graph: Any, *, pool: Any, **_: Any) -> Iterator[None]:
        self.pools.append(pool)
        self.captured = graph.variants
        yield
        self.captured = None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    stand_in(monkeypatch, fake.graph)
    monkeypatch.setattr(torch.cuda, "graph", fake.capture)
    return fake


def test_each_variant_is_replayed_after_warm_up(gpu: FakeGpu) -> None:
    steps = GraphedSteps(gpu.step, gpu.generator)
    order = [WITH_PROPOSALS] * (WARM_UP + 2) + [WITHOUT_PROPOSALS, WITH_PROPOSALS] * (WARM_UP + 2)
    for seed, variant in enumerate(order):
        steps.train_step(variant, seed)
    # Every step runs once, in order and with its seed; capturing runs nothing.
    assert [(variant, seed) for _, variant, seed in gpu.executed] == [
        (variant, seed) for seed, variant in enumerate(order)
    ]
    for variant in (WITH_PROPOSALS, WITHOUT_PROPOSALS):
        modes = [mode for mode, executed, _ in gpu.executed if executed == variant]
        assert modes == ["eager"] * WARM_UP + ["replay"] * (len(modes) - WARM_UP)


def test_graphs_share_a_memory_pool_and_the_generator(gpu: FakeGpu) -> None:
    steps = GraphedSteps(gpu.step, gpu.generator)
    for variant in (WITH_PROPOSALS, WITHOUT_PROPOSALS):
        for seed in range(WARM_UP + 3):
            steps.train_step(variant, seed)
    assert gpu.pools == [None, "the pool"]
    assert gpu.registered == [gpu.generator] * 2
