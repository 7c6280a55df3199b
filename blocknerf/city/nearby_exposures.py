"""The exposure that a place is photographed with, for cameras that nobody held there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.capture.frame import Frame

NEIGHBORS = 8
"""The distance of the n-th nearest photograph is how far its surroundings reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearbyExposures:
    """Photographs with known exposures, and where they were taken."""

    centers: Float[Tensor, "frames 3"]
    log2_exposure: Float[Tensor, "frames"]
    """Binary logarithms of exposures in the capture's unit."""

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> "NearbyExposures | None":
        """Those of some photographs; None where none says its exposure."""
        known = [(frame.center, frame.exposure) for frame in frames if frame.exposure is not None]
        if not known:
            return None
        return cls(
            centers=torch.tensor([center for center, _ in known], dtype=torch.float64, device="cpu"),
            log2_exposure=torch.tensor([exposure for _, exposure in known], dtype=torch.float64, device="cpu").log2(),
        )

    def exposure_at(self, center: Float[Tensor, "3"]) -> float:
        """The mean, in stops, of the photographs around a place, near ones counting most.

        It changes smoothly with the place, because the reach of the weights does: they fall like a bell curve as wide
        as the distance of the 8th nearest photograph.
        """
        distances = (self.centers - center.detach().cpu().double()).norm(dim=-1)
        reach = distances.kthvalue(min(NEIGHBORS, len(distances))).values.clamp_min(1e-9)
        shares = (-0.5 * (distances / reach).square()).softmax(0)
        return float(torch.exp2((shares * self.log2_exposure).sum()))
