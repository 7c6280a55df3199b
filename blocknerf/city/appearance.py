"""Default appearance and exposure of the city where no preset is matched: those of one segment of the capture.

Appearance codes of different blocks are not comparable, but the codes of one image stand for the same lighting. So
one segment is chosen for the whole city, and each block takes the mean of its own codes of that segment's images.
Neighbors share many of these images and roughly agree without matching. A camera that is not of the capture takes the
exposure of the images nearby.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame
from blocknerf.errors import RunError
from blocknerf.fields.spec import FieldSpec
from blocknerf.rendering.appearance_fit import CodePrior
from blocknerf.rendering.protocol import Field

UNTRAINED_STD = 0.5
"""Standard deviation of the codes of a field without trained codes: wide."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearanceQuery:
    """Images that define the appearance, and the exposure to render with."""

    frames: tuple[frozenset[str], ...] = ()
    """Sets of frame names in order of preference; a block takes the first set with a frame it was trained on."""
    exposure: float | None = None
    """In the capture's unit, the same everywhere."""
    nearby_exposures: NearbyExposures | None = None
    """Exposures to use where `exposure` is None; without either, blocks render at their reference exposure."""

    def exposure_at(self, center: Float[Tensor, "3"]) -> float | None:
        """Return the exposure to render with at a position; None if no exposure is known."""
        if self.exposure is None and self.nearby_exposures is not None:
            return self.nearby_exposures.exposure_at(center)
        return self.exposure


@runtime_checkable
class HasAppearanceCodes(Protocol):
    """A field with an appearance code for each image it was trained on."""

    @property
    def spec(self) -> FieldSpec: ...

    @property
    def appearance_codes(self) -> Tensor: ...

    def mean_appearance_code(self, frames: list[str] | None = None) -> Tensor: ...


def appearance_of(
    capture: Capture, trained: Iterable[Collection[int]], *, segment: str | None = None, frame: str | None = None
) -> AppearanceQuery:
    """Return the appearance of one image or one segment; by default of the segment that trains the most blocks.

    Args:
        capture: Source of frames, segments and exposures.
        trained: The frames that train each block, as indices into the capture.
        segment: Use the mean appearance of this segment.
        frame: Use the appearance of this image; blocks that were not trained on it use its segment.

    Raises:
        RunError: the capture has no such segment or frame.
    """
    if frame is not None:
        return _appearance_of_frame(capture, frame)
    segment = reference_segment(capture, trained) if segment is None else segment
    if segment not in capture.segments:
        known = ", ".join(list(capture.segments)[:8])
        raise RunError(f"appearance: the capture has no segment {segment!r}; name one of {known}")
    frames = [capture.frames[index] for index in capture.segments[segment]]
    return AppearanceQuery(
        frames=(frozenset(member.name for member in frames),), nearby_exposures=NearbyExposures.of(frames)
    )


def reference_segment(capture: Capture, trained: Iterable[Collection[int]]) -> str:
    """Return the segment that trains the most blocks; ties go to the one with the most frames, then to the first."""
    segment_of_frame = {index: name for name, indices in capture.segments.items() for index in indices}
    num_blocks: Counter[str] = Counter()
    for frames in trained:
        num_blocks.update({segment_of_frame[index] for index in frames})
    return max(capture.segments, key=lambda name: (num_blocks[name], len(capture.segments[name])))


def code_for_block(field: Field, appearance: AppearanceQuery) -> Float[Tensor, "codes"]:
    """Return the code of a block closest to the query, on the block's device; zeros if the field has no codes."""
    if not isinstance(field, HasAppearanceCodes):
        return torch.zeros(field.appearance_dim, device="cpu")
    for names in appearance.frames:
        shared = [name for name in field.spec.frames if name in names]
        if shared:
            return field.mean_appearance_code(shared)
    return field.mean_appearance_code()


def prior_for_block(field: Field) -> CodePrior:
    """Return the distribution of the codes that a block was trained with, for fitting a code of other images."""
    if isinstance(field, HasAppearanceCodes):
        return CodePrior.of(field.appearance_codes)
    return CodePrior.isotropic(field.appearance_dim, UNTRAINED_STD)


def exposure_for_block(field: Field, exposure: float | None) -> float:
    """Return `exposure`, or the reference exposure of the block's training images if it is None."""
    if exposure is not None:
        return exposure
    return field.spec.exposure_reference if isinstance(field, HasAppearanceCodes) else 1.0


def _appearance_of_frame(capture: Capture, name: str) -> AppearanceQuery:
    reference = next((frame for frame in capture.frames if frame.name == name), None)
    if reference is None:
        raise RunError(f"appearance: the capture has no frame {name!r}; use a name from capture.json")
    frames = [capture.frames[index] for index in capture.segments[reference.segment]]
    return AppearanceQuery(
        frames=(frozenset({name}), frozenset(member.name for member in frames)),
        exposure=reference.exposure,
        nearby_exposures=NearbyExposures.of(frames),
    )
