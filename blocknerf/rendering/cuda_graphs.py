"""Small work on a GPU as CUDA graphs: to call its hundred kernels from Python takes far longer than to run them."""

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
    """What is done again and again to as many rays of the same modules, each time without gradients.

    The first time it is done as it is, the second time it is recorded, and then replayed. Graphs go with their
    modules, whose parameters they read where they are. They share their memory, so one runs at a time.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._graphs: WeakKeyDictionary[nn.Module, dict[tuple[int, int], _Graph | None]] = WeakKeyDictionary()
        self._lock = Lock()

    @torch.no_grad()
    def __call__(self, module: nn.Module, rays: RayBundle) -> tuple[Tensor, ...]:
        """What the work gives for these rays, which lie on a GPU with the module."""
        place = next(module.parameters())
        key = (len(rays), place.data_ptr())
        with self._lock:
            graphs = self._graphs.setdefault(module, {})
            if key not in graphs:
                graphs[key] = None
                return self._work(module, rays)
            graph = graphs[key]
            if graph is None:
                graph = graphs[key] = _Graph(self._work, module, rays, self._pool(place.device))
            return graph.replay(rays)

    def _pool(self, device: torch.device) -> Any:
        """The memory of the graphs that there are on a device; it went with the last of them where there are none."""
        graphs = (graph for those in self._graphs.values() for graph in those.values())
        return next((graph.pool for graph in graphs if graph is not None and graph.device == device), None)


class _Graph:
    def __init__(self, work: Work, module: nn.Module, rays: RayBundle, pool: Any) -> None:
        self._given = [tensor.clone() for tensor in (rays.origins, rays.directions, rays.pixel_radii)]
        origins, directions, radii = self._given
        own = RayBundle(origins=origins, directions=directions, pixel_radii=radii)
        self.device = radii.device
        self._graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self.device)
        # Once on the stream that records, for which libraries then have all they need.
        current = torch.cuda.current_stream(self.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            work(module, own)
        current.wait_stream(stream)
        # Not by `torch.cuda.graph`, which collects garbage first and empties caches: somebody waits for a picture.
        collects = gc.isenabled()
        gc.disable()
        try:
            with torch.cuda.stream(stream):
                self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    self._found = work(module, own)
                finally:
                    self._graph.capture_end()
        finally:
            if collects:
                gc.enable()

    @property
    def pool(self) -> Any:
        return self._graph.pool()

    def replay(self, rays: RayBundle) -> tuple[Tensor, ...]:
        for mine, given in zip(self._given, (rays.origins, rays.directions, rays.pixel_radii), strict=True):
            mine.copy_(given)
        self._graph.replay()
        return tuple(tensor.clone() for tensor in self._found)
