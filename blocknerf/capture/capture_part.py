"""What the part of a capture that trains one block keeps of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from blocknerf.capture.points import PointCloud


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFacts:
    """Figures of a whole capture that the training of each block needs."""

    extent: float
    """Half the diagonal of the bounding box of the camera centers; 1 if all centers coincide."""
    shortest_side: int
    """Of all images, in pixels."""
    longest_side: int
    exposure: float
    """Median exposure, in the capture's unit; 1 if none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPaths:
    """The position of frames along the paths of their segments, in world units."""

    arc_length: Float64[np.ndarray, "frames"]
    """From the start of the segment to the frame."""
    total: Float64[np.ndarray, "frames"]
    """Length of the frame's segment."""

    def select(self, indices: Sequence[int]) -> "SegmentPaths":
        """Return the positions of some of the frames."""
        rows = np.asarray(indices, np.int64)
        return SegmentPaths(arc_length=self.arc_length[rows], total=self.total[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePart:
    """What a part of a capture keeps of the whole."""

    facts: CaptureFacts
    numbers: Int64[np.ndarray, "frames"]
    """Of the frames of the part, in the whole capture."""
    points: PointCloud | None
    """Points around the block that measure depth, in the world."""
    paths: SegmentPaths
    """Of the frames of the part, along their whole segments."""

    def select(self, indices: Sequence[int]) -> "CapturePart":
        """Return the same for some of the frames."""
        rows = np.asarray(indices, np.int64)
        return replace(self, numbers=self.numbers[rows], paths=self.paths.select(indices))
