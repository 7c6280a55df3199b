"""An Adam step that skips entries without a gradient."""

from blocknerf.kernels.adam.api import adam_step

__all__ = ["adam_step"]
