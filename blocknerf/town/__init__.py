"""The sample city: an analytic, procedural town with exact renderings, and captures of it."""

from blocknerf.numba_config import configure_numba_cache

configure_numba_cache()
