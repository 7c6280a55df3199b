"""The number of threads of all kernels, for PyTorch and Numba alike. It is set only here.

Each library keeps its own thread pool. A pool that waits actively starves the other (two pools compete for two cores),
so waiting is made passive before either loads OpenMP. Import this module before `torch` where you can.
"""

import os
import sys

from blocknerf.options import check_whole

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

_count: int | None = None


def available_cores() -> int:
    """Return the number of cores this process may use. In a container it is often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def set_num_threads(count: int | None = None) -> int:
    """Set the number of kernel threads to `count` (default: all available cores) and return the number set.

    PyTorch uses one thread: it runs only small operations between kernels, which two threads make slower
    (measured in training on two cores: 29,000 rays/s with two, 33,000 rays/s with one).

    Raises:
        OptionError: `count` is not a valid number of threads.
    """
    global _count
    check_whole(threads=count)
    import torch

    _count = min(count or available_cores(), available_cores())
    torch.set_num_threads(1)
    if "numba" in sys.modules:
        apply_numba_threads()
    return _count


def apply_numba_threads(max_threads: int | None = None) -> int:
    """Set Numba's thread count for the calling thread (its setting is per thread). Return the count."""
    import numba

    count = min(_count or available_cores(), int(getattr(numba.config, "NUMBA_NUM_THREADS")))  # noqa: B009
    count = count if max_threads is None else min(count, max_threads)
    if numba.get_num_threads() != count:
        numba.set_num_threads(count)
    return count
