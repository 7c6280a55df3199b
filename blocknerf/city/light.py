"""In which light a film shows the city: a look, several that pass into one another, or as each block learned it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.city.looks import DEFAULT_LOOK, Look, between, exposure_between, open_look
from blocknerf.city.manifest import City
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.options import MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """What decides the colors of a film, beside the city and the path."""

    looks: tuple[Look, ...]
    """In the order in which they pass; none shows each block's own idea of `segment`."""
    segment: str | None = None
    """Of the capture; None takes the one that trains the most blocks."""
    exposure: float | None = None
    """In the capture's unit; None shows that of the photographs around each camera."""
    mix: float | None = None
    """0..1: how far on the way through the looks every frame is; None passes along the video."""

    def at(self, share: float, renderer: CityRenderer, view: Cameras) -> dict[str, Any]:
        """How to render a camera at that share of the film: options of `CityRenderer.render`."""
        if not self.looks:
            return {"segment": self.segment, "exposure": self.exposure}
        first, second, passed = self._between(share if self.mix is None else self.mix)
        exposure = self.exposure
        if exposure is None:
            around = [renderer.appearance(look.segment).exposure_at(view.centers[0]) for look in (first, second)]
            exposure = exposure_between(around[0], around[1], passed)
        return {"look": first, "codes": between(first, second, passed), "exposure": exposure}

    def _between(self, share: float) -> tuple[Look, Look, float]:
        """The two looks around a share of the film, and how far from the first to the second it is."""
        if len(self.looks) == 1:
            return self.looks[0], self.looks[0], 0.0
        steps = list(pairwise(self.looks))
        place = min(max(share, 0.0), 1.0) * len(steps)
        number = min(int(place), len(steps) - 1)
        return *steps[number], place - number


def find_light(
    folder: RunFolder,
    city: City,
    capture: Capture,
    look: str | None,
    segment: str | None,
    exposure: float | None,
    mix: float | None = None,
) -> Light:
    """The light that is asked for.

    Args:
        folder: The run.
        city: Its blocks.
        capture: Its photographs.
        look: Names of stored looks, with colons between those that pass into one another.
        segment: Whose light to show where no look is named.
        exposure: In the capture's unit.
        mix: Show this mix of two looks, 0..1, in every frame.

    Raises:
        RunError: there is no such look or segment, a look is broken or out of date, or the exposure or the mix cannot
            be shown.
    """
    _check_exposure(capture, exposure)
    if mix is not None and (look is None or look.count(":") != 1):
        raise RunError("render: --mix is of two presets; give them as --look FIRST:SECOND, or leave it out")
    if mix is not None and not 0.0 <= mix <= 1.0:
        raise RunError(f"render: --mix {mix:g} is not from 0 to 1; give the share of the second preset")
    if look is None:
        if segment is not None and segment not in capture.segments:
            known = ", ".join(list(capture.segments)[:8])
            raise RunError(f"render: the capture has no segment {segment!r}; name one of {known}")
        return Light(looks=(), segment=segment, exposure=exposure)
    looks = tuple(open_look(folder, name, city.digest) for name in look.split(":"))
    return Light(looks=looks, exposure=exposure, mix=mix)


def default_look(folder: RunFolder, segment: str | None) -> str | None:
    """The look of a film for which none is named: the default one, if it is stored and no segment is followed."""
    return DEFAULT_LOOK if segment is None and folder.look(DEFAULT_LOOK).exists() else None


def _check_exposure(capture: Capture, exposure: float | None) -> None:
    if exposure is None:
        return
    known: Sequence[float] = [frame.exposure for frame in capture.frames if frame.exposure is not None]
    if not known:
        raise RunError("render: --exposure has no meaning here: the photographs do not say theirs; leave it out")
    if not 0.0 < exposure <= MOST:
        raise RunError(f"render: --exposure {exposure:g} is not a positive number; give one like {known[0]:g}")
