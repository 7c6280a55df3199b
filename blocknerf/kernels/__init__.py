"""Compiled operations: a plain PyTorch reference of each, and fast Numba and Triton backends."""

from blocknerf.numba_config import configure_numba_cache

configure_numba_cache()
