"""What a GPU can do at most of what the kernels live on: copying, gathering at random, adding at random."""

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

COPIED = 1 << 14 if TRITON_INTERPRET else 1 << 29
"""Bytes copied to measure how fast memory is."""
LANES, ROUNDS = (128, 2) if TRITON_INTERPRET else (1 << 20, 64)
"""Threads that gather or add at random, and how often each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Rates a second, measured on the device."""

    copy: float
    """Bytes read and written by a copy."""
    gather: float
    """Reads of entries, of half-precision features, at random places of a table."""
    scatter: float
    """Additions of an entry's features, float32, at random places of a table's gradient."""


def milliseconds(run: Callable[[], object], repeats: int = 15, warm_up: int = 3, *, recorded: bool = True) -> float:
    """Median time of a piece of work on the device, by events; on the processor, of one, by the clock.

    The work is recorded as a CUDA graph where it can be: calling short kernels from Python takes longer than they do.
    """
    if not torch.cuda.is_available():
        begun = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - begun)
    for _ in range(warm_up):
        run()
    if recorded:
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
    """The ceilings for a hash grid's table."""
    source = torch.randn(COPIED // 4, device=device)
    target = torch.empty_like(source)
    copy = 2.0 * COPIED / milliseconds(lambda: target.copy_(source))
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
def _somewhere(state, entries):
    """A place in a table, as good as random, and the state from which the next is found."""
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
    for turn in tl.static_range(ROUNDS):
        place, _ = _somewhere((lane * ROUNDS + turn).to(tl.uint32), entries.to(tl.uint32))
        total += tl.load(table + place)
    tl.store(out + lane, total)


@triton.jit
def _scatter(sums, entries, FEATURES: tl.constexpr, VECTOR: tl.constexpr, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = lane.to(tl.float32) * 1e-6
    for turn in tl.static_range(ROUNDS):
        place, _ = _somewhere((lane * ROUNDS + turn).to(tl.uint32), entries.to(tl.uint32))
        _add_entry(sums, place, value, value, value, value, value == value, FEATURES, 0.0, VECTOR)
