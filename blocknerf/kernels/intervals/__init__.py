"""Where intervals along rays lie in the world."""

from blocknerf.kernels.intervals.places import RaySamples, place_intervals

__all__ = ["RaySamples", "place_intervals"]
