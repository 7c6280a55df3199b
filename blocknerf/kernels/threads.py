"""The number of threads all kernels use, PyTorch's and Numba's alike, set here and nowhere else.

Both keep a pool of their own. While one waits actively the other starves (two pools on two cores fight), so waiting is
made passive before either loads OpenMP: import this module before `torch` where start-up order is yours to choose.
"""

import os
import sys

from blocknerf.options import check_whole

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

_count: int | None = None


def available_cores() -> int:
    """The cores this process may run on, which in a container is often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def set_num_threads(count: int | None = None) -> int:
    """Set the threads of the kernels to `count` (default: every usable core) and give the number set.

    PyTorch keeps to one: what is left to it are small operations between kernels, which two threads make slower
    (measured in training on two cores: 29,000 rays a second with two, 33,000 with one).

    Raises:
        OptionError: `count` is no number of threads.
    """
    global _count
    check_whole(threads=count)
    import torch

    _count = min(count or available_cores(), available_cores())
    torch.set_num_threads(1)
    if "numba" in sys.modules:
        apply_numba_threads()
    return _count


def apply_numba_threads(most: int | None = None) -> int:
    """Set Numba's threads, at most `most`, for the calling thread - Numba keeps it for each - and give their number."""
    import numba

    count = min(_count or available_cores(), int(getattr(numba.config, "NUMBA_NUM_THREADS")))  # noqa: B009
    count = count if most is None else min(count, most)
    if numba.get_num_threads() != count:
        numba.set_num_threads(count)
    return count
