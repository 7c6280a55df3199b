"""In which light a film shows the city: a look, several that pass into one another, or as each block learned it."""

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
    """What decides the colors of a film, beside the city and the path."""

    presets: tuple[AppearancePreset, ...]
    """In the order in which they pass; none shows each block's own idea of `segment`."""
    segment: str | None = None
    """Of the capture; None takes the one that trains the most blocks."""
    exposure: float | None = None
    """In the capture's unit; None shows that of the photographs around each camera."""
    mix: float | None = None
    """0..1: how far on the way through the looks every frame is; None passes along the video."""

    def render_options_at(self, share: float, renderer: CityRenderer, view: Cameras) -> dict[str, Any]:
        """How to render a camera at that share of the film: options of `CityRenderer.render`."""
        if not self.presets:
            return {"segment": self.segment, "exposure": self.exposure}
        first, second, passed = self._between(share if self.mix is None else self.mix)
        exposure = self.exposure
        if exposure is None:
            around = [renderer.appearance(look.segment).exposure_at(view.centers[0]) for look in (first, second)]
            exposure = interpolate_exposure(around[0], around[1], passed)
        return {"look": first, "codes": interpolate_presets(first, second, passed), "exposure": exposure}

    def _between(self, share: float) -> tuple[AppearancePreset, AppearancePreset, float]:
        """The two looks around a share of the film, and how far from the first to the second it is."""
        if len(self.presets) == 1:
            return self.presets[0], self.presets[0], 0.0
        steps = list(pairwise(self.presets))
        place = min(max(share, 0.0), 1.0) * len(steps)
        number = min(int(place), len(steps) - 1)
        return *steps[number], place - number


def resolve_appearance(
    folder: RunFolder,
    city: City,
    capture: Capture,
    names: Sequence[str],
    segment: str | None,
    exposure: float | None,
    mix: float | None = None,
) -> AppearanceTrack:
    """The light that is asked for.

    Args:
        folder: The run.
        city: Its blocks.
        capture: Its photographs.
        names: Names of presets, in the order in which a video passes through them.
        segment: Whose light to show where no look is named.
        exposure: In the capture's unit.
        mix: Show this mix of two looks, 0..1, in every frame.

    Raises:
        RunError: there is no such look or segment, a look is broken or out of date, or the exposure or the mix cannot
            be shown.
    """
    _check_exposure(capture, exposure)
    if mix is not None and len(names) != 2:
        raise RunError("render: --mix needs two presets; give --appearance FIRST --appearance-end SECOND, or omit it")
    if mix is not None and not 0.0 <= mix <= 1.0:
        raise RunError(f"render: --mix {mix:g} is not from 0 to 1; give the share of the second preset")
    if not names:
        if segment is not None and segment not in capture.segments:
            known = ", ".join(list(capture.segments)[:8])
            raise RunError(f"render: the capture has no segment {segment!r}; name one of {known}")
        return AppearanceTrack(presets=(), segment=segment, exposure=exposure)
    looks = tuple(load_preset(folder, name, city.digest) for name in names)
    return AppearanceTrack(presets=looks, exposure=exposure, mix=mix)


def default_preset(folder: RunFolder, segment: str | None) -> str | None:
    """The look of a film for which none is named: the default one, if it is stored and no segment is followed."""
    return DEFAULT_PRESET if segment is None and folder.appearance_preset(DEFAULT_PRESET).exists() else None


def _check_exposure(capture: Capture, exposure: float | None) -> None:
    if exposure is None:
        return
    known: Sequence[float] = [frame.exposure for frame in capture.frames if frame.exposure is not None]
    if not known:
        raise RunError("render: --exposure has no meaning here: the photographs do not say theirs; leave it out")
    if not 0.0 < exposure <= MAX_INT:
        raise RunError(f"render: --exposure {exposure:g} is not a positive number; give one like {known[0]:g}")
