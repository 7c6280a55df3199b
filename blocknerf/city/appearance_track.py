"""Appearance over a video: one preset, an interpolation of several, or each block's own codes of a segment."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.city.appearance_presets import (
    DEFAULT_PRESET,
    AppearancePreset,
    interpolate_exposure,
    interpolate_presets,
    load_preset,
)
from blocknerf.city.manifest import City
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.options import MAX_INT


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearanceTrack:
    """Appearance of a video."""

    presets: tuple[AppearancePreset, ...]
    """In the order in which they are interpolated; if empty, each block uses its own codes of `segment`."""
    segment: str | None = None
    """Segment of the capture; None takes the one that trains the most blocks."""
    exposure: float | None = None
    """In the capture's unit; None takes the exposure of the images around each camera."""
    mix: float | None = None
    """0..1: fixed interpolation position of every frame; None interpolates along the video."""

    def render_options_at(self, fraction: float, renderer: CityRenderer, view: Cameras) -> dict[str, Any]:
        """Return options of `CityRenderer.render` for a camera at a fraction of the video."""
        if not self.presets:
            return {"segment": self.segment, "exposure": self.exposure}
        first, second, blend = self._between(fraction if self.mix is None else self.mix)
        exposure = self.exposure
        if exposure is None:
            exposures = [renderer.appearance(preset.segment).exposure_at(view.centers[0]) for preset in (first, second)]
            exposure = interpolate_exposure(exposures[0], exposures[1], blend)
        return {"preset": first, "codes": interpolate_presets(first, second, blend), "exposure": exposure}

    def _between(self, fraction: float) -> tuple[AppearancePreset, AppearancePreset, float]:
        """Return the two presets around a fraction of the video, and the blend from the first to the second."""
        if len(self.presets) == 1:
            return self.presets[0], self.presets[0], 0.0
        pairs = list(pairwise(self.presets))
        position = min(max(fraction, 0.0), 1.0) * len(pairs)
        index = min(int(position), len(pairs) - 1)
        return *pairs[index], position - index


def resolve_appearance(
    folder: RunFolder,
    city: City,
    capture: Capture,
    names: Sequence[str],
    segment: str | None,
    exposure: float | None,
    mix: float | None = None,
) -> AppearanceTrack:
    """Return the appearance that the options ask for.

    Args:
        folder: The run folder.
        city: The run's city.
        capture: The run's capture.
        names: Names of presets, in the order in which the video interpolates them.
        segment: Segment to take codes from if no preset is named.
        exposure: In the capture's unit; 1 is that of the images if they have none.
        mix: Interpolation position of two presets in every frame, 0..1.

    Raises:
        RunError: a preset or the segment does not exist, a preset is broken or stale, or the exposure or the mix is
            invalid.
    """
    _check_exposure(exposure)
    if mix is not None and len(names) != 2:
        raise RunError("render: --mix needs two presets; give --appearance FIRST --appearance-end SECOND, or omit it")
    if mix is not None and not 0.0 <= mix <= 1.0:
        raise RunError(f"render: --mix {mix:g} is not from 0 to 1; give the weight of the second preset")
    if not names:
        if segment is not None and segment not in capture.segments:
            known = ", ".join(list(capture.segments)[:8])
            raise RunError(f"render: the capture has no segment {segment!r}; name one of {known}")
        return AppearanceTrack(presets=(), segment=segment, exposure=exposure)
    presets = tuple(load_preset(folder, name, city.digest) for name in names)
    return AppearanceTrack(presets=presets, exposure=exposure, mix=mix)


def default_preset(folder: RunFolder, segment: str | None) -> str | None:
    """Return the preset of a video if none is named: the default preset if it exists and no segment is requested."""
    return DEFAULT_PRESET if segment is None and folder.appearance_preset(DEFAULT_PRESET).exists() else None


def _check_exposure(exposure: float | None) -> None:
    if exposure is not None and not 0.0 < exposure <= MAX_INT:
        raise RunError(f"render: --exposure {exposure:g} is not a positive number; twice the exposure is one stop more")
