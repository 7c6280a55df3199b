"""CUDA graphs of training steps and small renderings.

Each launches hundreds of kernels, and launching them from Python takes longer than running them.
"""

import gc
from collections import Counter
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from blocknerf.cameras import RayBundle

WARM_UP = 3
"""Steps of a variant before it is captured; the first ones compile kernels and initialize libraries."""

RayFunction = Callable[[Any, RayBundle], tuple[Tensor, ...]]
_T = TypeVar("_T")


class GraphedSteps:
    """One CUDA graph per variant of a training step.

    A captured step works on fixed memory: parameters, moments, images, cameras and the schedule are tensors that are
    updated in place between steps. Gradients and intermediate results are in memory that only the graphs use. The
    generator is seeded before each step, so captured and eager steps draw the same random numbers.
    """

    def __init__(self, step: Callable[[Any], None], generator: torch.Generator) -> None:
        """Create an object without graphs; the first steps capture them.

        Args:
            step: Runs one step of a variant; must not synchronize with the device.
            generator: Random generator of the step, on the device.
        """
        self._step, self._generator = step, generator
        self._stream = torch.cuda.Stream(generator.device)
        self._step_counts: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, Any] = {}

    def train_step(self, variant: Hashable, seed: int) -> None:
        """Run a step with a seed: eagerly during warm-up, then by replaying the variant's graph."""
        self._step_counts[variant] += 1
        if self._step_counts[variant] > WARM_UP and variant not in self._graphs:
            self._capture(variant)
        self._generator.manual_seed(seed)
        if variant in self._graphs:
            self._graphs[variant].replay()
        else:
            _run_on(self._stream, lambda: self._step(variant))

    def _capture(self, variant: Hashable) -> None:
        # Graphs run one after the other and keep nothing in their memory between runs, so they share a pool.
        pool = next((captured.pool() for captured in self._graphs.values()), None)
        # Memory that the eager steps no longer need is freed for the graph.
        torch.cuda.synchronize(self._stream.device)
        gc.collect()
        torch.cuda.empty_cache()
        self._graphs[variant], _ = _capture(self._stream, lambda: self._step(variant), pool, self._generator)


class GraphedFunction:
    """A function of a module and rays, without gradients, replayed as a CUDA graph from the second call on.

    There is one graph per module and number of rays: the first call runs the function, the second captures it, and
    later calls replay it. A graph reads the parameters of its module in place and is released with the module. The
    graphs share their memory, so one runs at a time.
    """

    def __init__(self, function: RayFunction) -> None:
        self._function = function
        self._graphs: WeakKeyDictionary[nn.Module, dict[tuple[int, int], _RayGraph | None]] = WeakKeyDictionary()
        self._lock = Lock()

    @torch.no_grad()
    def __call__(self, module: nn.Module, rays: RayBundle) -> tuple[Tensor, ...]:
        """Return the outputs for these rays; rays and module are on the same GPU."""
        parameter = next(module.parameters())
        key = (len(rays), parameter.data_ptr())
        with self._lock:
            graphs = self._graphs.setdefault(module, {})
            if key not in graphs:
                graphs[key] = None
                return self._function(module, rays)
            graph = graphs[key]
            if graph is None:
                graph = graphs[key] = _RayGraph(self._function, module, rays, self._pool(parameter.device))
            return graph.replay(rays)

    def _pool(self, device: torch.device) -> Any:
        """Return the memory pool of the graphs on a device; None if there are none, since it is freed with the last."""
        graphs = (graph for by_size in self._graphs.values() for graph in by_size.values())
        return next((graph.pool for graph in graphs if graph is not None and graph.device == device), None)


class _RayGraph:
    """A captured function with the fixed tensors that it reads and writes."""

    def __init__(self, function: RayFunction, module: nn.Module, rays: RayBundle, pool: Any) -> None:
        self._static_inputs = [tensor.clone() for tensor in (rays.origins, rays.directions, rays.pixel_radii)]
        origins, directions, radii = self._static_inputs
        static_rays = RayBundle(origins=origins, directions=directions, pixel_radii=radii)
        self.device = radii.device
        stream = torch.cuda.Stream(self.device)
        _run_on(stream, lambda: function(module, static_rays))
        self._graph, self._static_outputs = _capture(stream, lambda: function(module, static_rays), pool)

    @property
    def pool(self) -> Any:
        return self._graph.pool()

    def replay(self, rays: RayBundle) -> tuple[Tensor, ...]:
        inputs = (rays.origins, rays.directions, rays.pixel_radii)
        for static, tensor in zip(self._static_inputs, inputs, strict=True):
            static.copy_(tensor)
        self._graph.replay()
        return tuple(tensor.clone() for tensor in self._static_outputs)


def _run_on(stream: Any, work: Callable[[], object]) -> None:
    """Run work on the stream of a later capture, so that libraries have allocated their workspace for it."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        work()
    current.wait_stream(stream)


def _capture(
    stream: Any, work: Callable[[], _T], pool: Any, generator: torch.Generator | None = None
) -> tuple[Any, _T]:
    """Return the graph of some work, and its outputs, which each replay overwrites.

    `torch.cuda.graph` would first empty the memory caches, which delays an interactive rendering.
    """
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    # A garbage collection during the capture could free device memory.
    gc_was_enabled = gc.isenabled()
    gc.disable()
    try:
        with torch.cuda.stream(stream):
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                outputs = work()
            finally:
                graph.capture_end()
    finally:
        if gc_was_enabled:
            gc.enable()
    return graph, outputs
