"""City-scale neural radiance fields, a block at a time."""

__version__ = "0.1.0"
