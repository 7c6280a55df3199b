"""Where intervals along rays lie in the world."""

from blocknerf.kernels.intervals.places import Places, place_intervals

__all__ = ["Places", "place_intervals"]
