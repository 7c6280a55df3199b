"""What a GPU can do at most of what the kernels live on: copying, gathering at random, adding at random."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import triton
import triton.language as tl

from blocknerf.kernels.backends import INTERPRETED
from blocknerf.kernels.hash_grid.fused import _add_vector

COPIED = 1 << 14 if INTERPRETED else 1 << 29
"""Bytes copied to measure how fast memory is."""
LANES, ROUNDS = (128, 2) if INTERPRETED else (1 << 20, 64)
"""Threads that gather or add at random, and how often each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Rates a second, measured on the device."""

    copy: float
    """Bytes read and written by a copy."""
    gather: float
    """Reads of 8 bytes at random places of a table."""
    scatter: float
    """Additions of four float32 at random places of a table's gradient."""


def milliseconds(run: Callable[[], object], repeats: int = 15, warm_up: int = 3) -> float:
    """Median time of a piece of work on the device, by events; on the processor, of one, by the clock."""
    if not torch.cuda.is_available():
        begun = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - begun)
    for _ in range(warm_up):
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


def measure(entries: int, device: torch.device) -> Ceilings:
    """The ceilings for a table of so many entries of four features."""
    source = torch.randn(COPIED // 4, device=device)
    target = torch.empty_like(source)
    copy = 2.0 * COPIED / milliseconds(lambda: target.copy_(source))
    table = torch.randint(0, 1 << 40, (entries,), device=device)
    sums, out = torch.zeros(entries, 4, device=device), torch.empty(LANES, dtype=torch.int64, device=device)
    grid, shape = (LANES // 128,), {"ROUNDS": ROUNDS, "BLOCK": 128}
    vector = not INTERPRETED and torch.cuda.get_device_capability(device)[0] >= 9
    gather = milliseconds(lambda: _gather[grid](table, out, entries, **shape))
    scatter = milliseconds(lambda: _scatter[grid](sums, entries, VECTOR=vector, **shape))
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
    total = tl.zeros([BLOCK], tl.int64)
    for turn in tl.static_range(ROUNDS):
        place, _ = _somewhere((lane * ROUNDS + turn).to(tl.uint32), entries.to(tl.uint32))
        total += tl.load(table + place)
    tl.store(out + lane, total)


@triton.jit
def _scatter(sums, entries, VECTOR: tl.constexpr, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = lane.to(tl.float32) * 1e-6
    for turn in tl.static_range(ROUNDS):
        place, _ = _somewhere((lane * ROUNDS + turn).to(tl.uint32), entries.to(tl.uint32))
        target = sums + place * 4
        if VECTOR:
            _add_vector(target, value, value, value, value, value == value, 4)
        else:
            for feature in tl.static_range(4):
                tl.atomic_add(target + feature, value, sem="relaxed")
