"""Exposure for cameras that are not of the capture: that of the training images nearby."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.capture.frame import Frame

NEIGHBORS = 8
"""The distance of the n-th nearest image is the standard deviation of the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearbyExposures:
    """Images with known exposures, and their camera centers."""

    centers: Float[Tensor, "frames 3"]
    log2_exposure: Float[Tensor, "frames"]
    """Base-2 logarithm of the exposures in the capture's unit."""

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> "NearbyExposures | None":
        """Return the exposures of some images; None if none of them has an exposure."""
        known = [(frame.center, frame.exposure) for frame in frames if frame.exposure is not None]
        if not known:
            return None
        return cls(
            centers=torch.tensor([center for center, _ in known], dtype=torch.float64, device="cpu"),
            log2_exposure=torch.tensor([exposure for _, exposure in known], dtype=torch.float64, device="cpu").log2(),
        )

    def exposure_at(self, center: Float[Tensor, "3"]) -> float:
        """Return the weighted mean, in stops, of the exposures around a position.

        The weights are a Gaussian of the distance with the distance of the 8th nearest image as standard deviation, so
        the result changes smoothly with the position.
        """
        distances = (self.centers - center.detach().cpu().double()).norm(dim=-1)
        std = distances.kthvalue(min(NEIGHBORS, len(distances))).values.clamp_min(1e-9)
        weights = (-0.5 * (distances / std).square()).softmax(0)
        return float(torch.exp2((weights * self.log2_exposure).sum()))
