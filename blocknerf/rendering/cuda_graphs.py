"""CUDA graphs of small functions: launching their hundred kernels from Python takes far longer than running them."""

import gc
from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from blocknerf.cameras import RayBundle

Work = Callable[[Any, RayBundle], tuple[Tensor, ...]]


class GraphedFunction:
    """A function of a module and rays, without gradients, replayed as a CUDA graph from the second call on.

    There is one graph per module and number of rays: the first call runs the function, the second captures it, and
    later calls replay it. A graph reads the parameters of its module in place and is released with the module. The
    graphs share their memory, so one runs at a time.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._graphs: WeakKeyDictionary[nn.Module, dict[tuple[int, int], _CapturedGraph | None]] = WeakKeyDictionary()
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
                return self._work(module, rays)
            graph = graphs[key]
            if graph is None:
                graph = graphs[key] = _CapturedGraph(self._work, module, rays, self._pool(parameter.device))
            return graph.replay(rays)

    def _pool(self, device: torch.device) -> Any:
        """Return the memory pool of the graphs on a device; None if there are none, since it is freed with the last."""
        graphs = (graph for by_size in self._graphs.values() for graph in by_size.values())
        return next((graph.pool for graph in graphs if graph is not None and graph.device == device), None)


class _CapturedGraph:
    def __init__(self, work: Work, module: nn.Module, rays: RayBundle, pool: Any) -> None:
        self._static_inputs = [tensor.clone() for tensor in (rays.origins, rays.directions, rays.pixel_radii)]
        origins, directions, radii = self._static_inputs
        static_rays = RayBundle(origins=origins, directions=directions, pixel_radii=radii)
        self.device = radii.device
        self._graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self.device)
        # Run once on the capture stream, so that libraries initialize before the capture.
        current = torch.cuda.current_stream(self.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            work(module, static_rays)
        current.wait_stream(stream)
        # `torch.cuda.graph` would collect garbage and empty caches first, which delays an interactive rendering.
        gc_was_enabled = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.stream(stream):
                self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    self._static_outputs = work(module, static_rays)
                finally:
                    self._graph.capture_end()
        finally:
            if gc_was_enabled:
                gc.enable()

    @property
    def pool(self) -> Any:
        return self._graph.pool()

    def replay(self, rays: RayBundle) -> tuple[Tensor, ...]:
        inputs = (rays.origins, rays.directions, rays.pixel_radii)
        for static, tensor in zip(self._static_inputs, inputs, strict=True):
            static.copy_(tensor)
        self._graph.replay()
        return tuple(tensor.clone() for tensor in self._static_outputs)
