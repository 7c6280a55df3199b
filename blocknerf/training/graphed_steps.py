"""Capture training steps as CUDA graphs and replay them.

A step launches a few hundred kernels, and launching them from Python takes longer than running them.
"""

import gc
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch

WARM_UP = 3
"""Steps of a variant before it is captured; the first ones compile kernels and initialize libraries."""


class StepVariant(NamedTuple):
    """Differences between steps other than in tensor values; each variant has its own graph."""

    trains_proposals: bool
    """Whether the step trains the proposal networks."""
    fades_levels: bool
    """Whether hash levels are still fading in."""


class GraphedSteps:
    """One CUDA graph per variant of a training step.

    A captured step works on fixed memory: parameters, moments, images, cameras and the schedule are tensors that are
    updated in place between steps. Gradients and intermediate results are in memory that only the graphs use. The
    generator is seeded before each step, so captured and eager steps draw the same random numbers.
    """

    def __init__(self, step: Callable[[StepVariant], None], generator: torch.Generator) -> None:
        """Create an object without graphs; the first steps capture them.

        Args:
            step: Runs one step of a variant; must not synchronize with the device.
            generator: Random generator of the step, on the device.
        """
        self._step, self._generator = step, generator
        self._stream = torch.cuda.Stream(generator.device)
        self._step_counts: Counter[StepVariant] = Counter()
        self._graphs: dict[StepVariant, torch.cuda.CUDAGraph] = {}

    def train_step(self, variant: StepVariant, seed: int) -> None:
        """Run a step with a seed: eagerly during warm-up, then by replaying the variant's graph."""
        self._step_counts[variant] += 1
        if self._step_counts[variant] > WARM_UP and variant not in self._graphs:
            self._capture(variant)
        self._generator.manual_seed(seed)
        if variant in self._graphs:
            self._graphs[variant].replay()
        else:
            self._warm_up(variant)

    def _warm_up(self, variant: StepVariant) -> None:
        # Runs on the capture stream, so that libraries have allocated their workspace for this stream.
        current = torch.cuda.current_stream(self._generator.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._step(variant)
        current.wait_stream(self._stream)

    def _capture(self, variant: StepVariant) -> None:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        # Graphs run one after the other and keep nothing in their memory between runs, so they share a pool.
        pool = next((captured.pool() for captured in self._graphs.values()), None)
        # A garbage collection during capture could free device memory.
        gc.collect()
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            self._step(variant)
        self._graphs[variant] = graph
