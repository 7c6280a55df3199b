"""Capture, replay and release of CUDA graphs, on a simulated GPU."""

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blocknerf.cameras import RayBundle
from blocknerf.cuda_graphs import WARM_UP, GraphedFunction, GraphedSteps
from tests.absent import stand_in


class FakeGPU:
    """Runs a function; a graph captured during a run repeats that run when it is replayed."""

    def __init__(self) -> None:
        self.capturing: Any = None
        self.pools: list[Any] = []
        self.events: list[str] = []

    def work(self, module: nn.Linear, rays: RayBundle) -> tuple[Tensor, ...]:
        weight = module.weight.detach()  # a graph knows only the address of a parameter, not its module

        def compute() -> Tensor:
            return rays.directions @ weight[0] + rays.pixel_radii

        out = compute()
        self.events.append("run" if self.capturing is None else "captured")
        if self.capturing is not None:
            self.capturing.replay = lambda: (self.events.append("replayed"), out.copy_(compute()))
        return (out,)

    def graph(self) -> Any:
        graph = SimpleNamespace(pool=lambda: "the pool", capture_end=lambda: setattr(self, "capturing", None))

        def begin(*, pool: Any, capture_error_mode: str) -> None:
            self.pools.append(pool)
            self.capturing = graph

        graph.capture_begin = begin
        return graph


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGPU:
    gpu = FakeGPU()
    stand_in(monkeypatch, gpu.graph)
    return gpu


def rays(count: int, seed: int) -> RayBundle:
    generator = torch.Generator().manual_seed(seed)
    origins, directions = torch.rand(2, count, 3, generator=generator)
    return RayBundle(origins=origins, directions=directions, pixel_radii=torch.rand(count, generator=generator))


def test_a_graph_is_reused_for_other_rays(gpu: FakeGPU) -> None:
    function, module = GraphedFunction(gpu.work), nn.Linear(3, 1)
    results = []
    for seed in range(5):
        (result,) = function(module, rays(4, seed))
        results.append(result)
        gpu.events.append("next")
    # Run directly, then run once on the capture stream, captured, and replayed from then on.
    assert " ".join(gpu.events).split(" next")[:4] == ["run", " run captured replayed", " replayed", " replayed"]
    for seed, result in enumerate(results):
        inputs = rays(4, seed)
        torch.testing.assert_close(result, inputs.directions @ module.weight.detach()[0] + inputs.pixel_radii)


def test_graphs_per_module_and_number_of_rays_share_memory(gpu: FakeGPU) -> None:
    function, modules = GraphedFunction(gpu.work), [nn.Linear(3, 1), nn.Linear(3, 1)]
    for module in modules:
        for count in (4, 4, 6, 6):
            function(module, rays(count, 0))
    assert gpu.pools == [None, "the pool", "the pool", "the pool"]


def test_memory_is_released_with_the_last_module(gpu: FakeGPU) -> None:
    function = GraphedFunction(gpu.work)
    for _ in range(2):
        module = nn.Linear(3, 1)
        for seed in range(3):
            function(module, rays(4, seed))
        del module
        gc.collect()
    assert gpu.pools == [None, None]
    assert not function._graphs


class FakeStepGPU:
    """Records each step with its seed; during capture, steps are only stored in the graph."""

    def __init__(self) -> None:
        self.generator = torch.Generator()
        self.executed: list[tuple[str, str, int]] = []
        self.captured: list[str] | None = None
        self.pools: list[Any] = []
        self.registered: list[Any] = []

    def step(self, variant: str) -> None:
        if self.captured is None:
            self.executed.append(("eager", variant, self.generator.initial_seed()))
        else:
            self.captured.append(variant)

    def graph(self) -> Any:
        graph = SimpleNamespace(variants=[], pool=lambda: "the pool", register_generator_state=self.registered.append)
        graph.replay = lambda: self.executed.extend(
            ("replay", v, self.generator.initial_seed()) for v in graph.variants
        )

        def begin(*, pool: Any, capture_error_mode: str) -> None:
            self.pools.append(pool)
            self.captured = graph.variants

        graph.capture_begin, graph.capture_end = begin, lambda: setattr(self, "captured", None)
        return graph


@pytest.fixture
def step_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeStepGPU:
    fake = FakeStepGPU()
    stand_in(monkeypatch, fake.graph)
    return fake


def test_each_variant_is_replayed_after_warm_up(step_gpu: FakeStepGPU) -> None:
    steps = GraphedSteps(step_gpu.step, step_gpu.generator)
    order = ["with"] * (WARM_UP + 2) + ["without", "with"] * (WARM_UP + 2)
    for seed, variant in enumerate(order):
        steps.train_step(variant, seed)
    # Every step runs once, in order and with its seed; capturing runs nothing.
    assert [(variant, seed) for _, variant, seed in step_gpu.executed] == [
        (variant, seed) for seed, variant in enumerate(order)
    ]
    for variant in ("with", "without"):
        modes = [mode for mode, executed, _ in step_gpu.executed if executed == variant]
        assert modes == ["eager"] * WARM_UP + ["replay"] * (len(modes) - WARM_UP)


def test_graphs_share_a_memory_pool_and_the_generator(step_gpu: FakeStepGPU) -> None:
    steps = GraphedSteps(step_gpu.step, step_gpu.generator)
    for variant in ("with", "without"):
        for seed in range(WARM_UP + 3):
            steps.train_step(variant, seed)
    assert step_gpu.pools == [None, "the pool"]
    assert step_gpu.registered == [step_gpu.generator] * 2
