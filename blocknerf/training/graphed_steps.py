"""Steps recorded once as CUDA graphs and replayed: a step is some hundred kernels, and calling them one by one from
Python takes longer than running them."""

import gc
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch

WARM_UP = 3
"""Steps of a kind that are taken before it is recorded: kernels are compiled and libraries set up in the first."""


class StepVariant(NamedTuple):
    """What differs between steps other than in numbers."""

    trains_proposals: bool
    """Whether the proposals learn."""
    fades_levels: bool
    """Whether hash levels are fading in."""


class GraphedSteps:
    """One graph for each kind of step.

    What a recorded step does, it does again to the same memory: parameters, moments, photographs, cameras and the
    pace are tensors that stay where they are, and change in place between steps. Gradients and all that lies between
    live in memory of the graphs alone. A seed is set before each step, so that a step draws the same, recorded or not.
    """

    def __init__(self, take: Callable[[StepVariant], None], generator: torch.Generator) -> None:
        """Prepare to record.

        Args:
            take: Takes a step of a kind; it may not wait for the device.
            generator: What the step draws from, on the device.
        """
        self._take, self._generator = take, generator
        self._stream = torch.cuda.Stream(generator.device)
        self._taken: Counter[StepVariant] = Counter()
        self._graphs: dict[StepVariant, torch.cuda.CUDAGraph] = {}

    def train_step(self, kind: StepVariant, seed: int) -> None:
        """Take a step with this seed: as it is while its kind is new, then by its graph."""
        self._taken[kind] += 1
        if self._taken[kind] > WARM_UP and kind not in self._graphs:
            self._capture(kind)
        self._generator.manual_seed(seed)
        if kind in self._graphs:
            self._graphs[kind].replay()
        else:
            self._warm_up(kind)

    def _warm_up(self, kind: StepVariant) -> None:
        # On the stream that records, for which libraries then have all they need.
        current = torch.cuda.current_stream(self._generator.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._take(kind)
        current.wait_stream(self._stream)

    def _capture(self, kind: StepVariant) -> None:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        # Graphs run one after the other and leave nothing in their memory for later, so they share it.
        pool = next((other.pool() for other in self._graphs.values()), None)
        # What is collected while a step is recorded might give back memory in the midst of it.
        gc.collect()
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            self._take(kind)
        self._graphs[kind] = graph
