"""Hardware limits that bound the kernels: copy bandwidth, random gathers, random atomic additions."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import triton
import triton.language as tl

from blocknerf.kernels.backends import TRITON_INTERPRET
from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.hash_grid.triton_impl import _add_entry
from blocknerf.kernels.triton_ops import capability

COPY_BYTES = 1 << 14 if TRITON_INTERPRET else 1 << 29
"""Bytes copied to measure memory bandwidth."""
LANES, ROUNDS = (128, 2) if TRITON_INTERPRET else (1 << 20, 64)
"""Threads that gather or add at random, and operations per thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Rates per second, measured on the device."""

    copy: float
    """Bytes read and written by a copy."""
    gather: float
    """Reads of half-precision entries at random table indices."""
    scatter: float
    """Float32 additions to entries at random indices of a table's gradient."""


def milliseconds(run: Callable[[], object], repeats: int = 15, warm_up: int = 3, *, capture: bool = True) -> float:
    """Return the median milliseconds of `run`, by CUDA events; on CPU, of one run, by the clock.

    With `capture`, the work is a CUDA graph: launching short kernels from Python takes longer than running them.
    """
    if not torch.cuda.is_available():
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    for _ in range(warm_up):
        run()
    if capture:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        run = graph.replay
        run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return median(times)


def measure(grid: GridSpec, device: torch.device) -> Ceilings:
    """Return the ceilings for a hash grid's table."""
    source = torch.randn(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copy = 2.0 * COPY_BYTES / milliseconds(lambda: target.copy_(source))
    entries, features = grid.num_entries, grid.features_per_level
    words = torch.int64 if features == 4 else torch.int32
    table = torch.randint(0, 1 << 30, (entries,), device=device).to(words)
    sums, out = torch.zeros(entries, features, device=device), torch.empty(LANES, dtype=words, device=device)
    lanes, shape = (LANES // 128,), {"ROUNDS": ROUNDS, "BLOCK": 128}
    vector = capability(device) >= (9, 0)
    gather = milliseconds(lambda: _gather[lanes](table, out, entries, **shape))
    scatter = milliseconds(lambda: _scatter[lanes](sums, entries, FEATURES=features, VECTOR=vector, **shape))
    count = LANES * ROUNDS
    return Ceilings(copy=1e3 * copy, gather=1e3 * count / gather, scatter=1e3 * count / scatter)


@triton.jit
def _random_index(state, entries):
    """Return a pseudo-random table index, and the next state."""
    state = (state ^ 61) ^ (state >> 16)
    state = state * 9
    state = state ^ (state >> 4)
    state = state * 668265261
    state = state ^ (state >> 15)
    return (state % entries).to(tl.int32), state


@triton.jit
def _gather(table, out, entries, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], table.dtype.element_ty)
    for round in tl.static_range(ROUNDS):
        index, _ = _random_index((lane * ROUNDS + round).to(tl.uint32), entries.to(tl.uint32))
        total += tl.load(table + index)
    tl.store(out + lane, total)


@triton.jit
def _scatter(sums, entries, FEATURES: tl.constexpr, VECTOR: tl.constexpr, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = lane.to(tl.float32) * 1e-6
    for round in tl.static_range(ROUNDS):
        index, _ = _random_index((lane * ROUNDS + round).to(tl.uint32), entries.to(tl.uint32))
        _add_entry(sums, index, value, value, value, value, value == value, FEATURES, 0.0, VECTOR)
