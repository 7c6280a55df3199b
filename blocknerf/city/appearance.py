"""How a picture of the city should look where no look has been matched: like some of its photographs.

Codes of different blocks are unrelated numbers, but codes of the same photograph mean the same light. So
one segment is chosen for the whole city, and each block takes the mean of its own codes of that segment's
photographs: neighbours, which share many of them, then roughly agree without matching.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.city.nearby_exposures import NearbyExposures
from blocknerf.errors import RunError
from blocknerf.fields.spec import FieldSpec
from blocknerf.rendering.protocol import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearanceQuery:
    """Photographs to look like, and the exposure to show."""

    frames: tuple[frozenset[str], ...] = ()
    """Sets of frames in order of preference: a block takes the first of which it was trained on any."""
    exposure: float | None = None
    """In the capture's unit, the same everywhere."""
    nearby_exposures: NearbyExposures | None = None
    """Whose exposures to show where `exposure` is None; without either, blocks show their reference exposure."""

    def exposure_at(self, center: Float[Tensor, "3"]) -> float | None:
        """The exposure to show at a place; None where nothing is known of any."""
        if self.exposure is None and self.nearby_exposures is not None:
            return self.nearby_exposures.exposure_at(center)
        return self.exposure


@runtime_checkable
class HasAppearanceCodes(Protocol):
    """A field that kept an appearance code of each photograph it was trained on."""

    @property
    def spec(self) -> FieldSpec: ...

    def mean_appearance_code(self, frames: list[str] | None = None) -> Tensor: ...


def appearance_of(
    capture: Capture, trained: Iterable[Collection[int]], *, segment: str | None = None, frame: str | None = None
) -> AppearanceQuery:
    """The appearance of one photograph or one segment; by default of the segment that trains the most blocks.

    Args:
        capture: Where frames, segments and exposures are from.
        trained: The frames that train each block, as their places in the capture.
        segment: Look like this segment on average.
        frame: Look like this photograph; blocks that were not trained on it look like its segment.

    Raises:
        RunError: the capture has no such segment or frame.
    """
    if frame is not None:
        return _appearance_of_frame(capture, frame)
    segment = reference_segment(capture, trained) if segment is None else segment
    if segment not in capture.segments:
        known = ", ".join(list(capture.segments)[:8])
        raise RunError(f"appearance: the capture has no segment {segment!r}; name one of {known}")
    members = [capture.frames[index] for index in capture.segments[segment]]
    return AppearanceQuery(
        frames=(frozenset(member.name for member in members),), nearby_exposures=NearbyExposures.of(members)
    )


def reference_segment(capture: Capture, trained: Iterable[Collection[int]]) -> str:
    """The segment that trains the most blocks; among equals the one with the most frames, then the first."""
    of_frame = {index: name for name, indices in capture.segments.items() for index in indices}
    blocks: Counter[str] = Counter()
    for frames in trained:
        blocks.update({of_frame[index] for index in frames})
    return max(capture.segments, key=lambda name: (blocks[name], len(capture.segments[name])))


def code_for_block(field: Field, appearance: AppearanceQuery) -> Float[Tensor, "codes"]:
    """The appearance code with which a block comes closest, on the block's device; zeros for a field without any."""
    if not isinstance(field, HasAppearanceCodes):
        return torch.zeros(field.appearance_dim, device="cpu")
    for wanted in appearance.frames:
        shared = [name for name in field.spec.frames if name in wanted]
        if shared:
            return field.mean_appearance_code(shared)
    return field.mean_appearance_code()


def exposure_for_block(field: Field, exposure: float | None) -> float:
    """The exposure to render a block with: that which is asked for, else the one the block was trained around."""
    if exposure is not None:
        return exposure
    return field.spec.exposure_reference if isinstance(field, HasAppearanceCodes) else 1.0


def _appearance_of_frame(capture: Capture, name: str) -> AppearanceQuery:
    chosen = next((frame for frame in capture.frames if frame.name == name), None)
    if chosen is None:
        raise RunError(f"appearance: the capture has no frame {name!r}; name one as capture.json does")
    members = [capture.frames[index] for index in capture.segments[chosen.segment]]
    return AppearanceQuery(
        frames=(frozenset({name}), frozenset(member.name for member in members)),
        exposure=chosen.exposure,
        nearby_exposures=NearbyExposures.of(members),
    )
