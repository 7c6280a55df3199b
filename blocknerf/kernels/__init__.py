"""Operations that are worth compiling: each as plain PyTorch, its definition, and in fast backends."""

from blocknerf.numba_config import configure_numba_cache

configure_numba_cache()
