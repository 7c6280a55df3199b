"""Which frames of a capture are held out from training, for evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Split
from blocknerf.partitioning.capture_geometry import natural_sort_key

_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The frames that do not train, as indices into the capture, ascending."""

    test: tuple[int, ...]
    """Frames to evaluate on."""
    unused: tuple[int, ...] = ()
    """Frames that neither train nor are evaluated: those for validation, if the capture has others for testing."""
    rule: str
    """How they were chosen, as a sentence without its period."""


class _Images(NamedTuple):
    """Fields of all frames."""

    cameras: Sequence[str]
    times: Sequence[float | None]
    names: Sequence[str]


def hold_out(capture: Capture, test_every: int) -> HeldOut:
    """Return the held-out frames of a capture.

    The capture's own split comes first. Otherwise every `test_every`-th instant of each segment is held out, with the
    images of all its cameras, so that no camera trains on what another one is evaluated on; 0 holds out none. Images
    belong to the same instant by their timestamps or, without any, by their number among the images of their camera.
    Segments with fewer instants than `test_every` are counted through.
    """
    splits = capture.column("split")
    if any(split is not None for split in splits):
        return _as_listed(splits)
    if test_every == 0:
        return HeldOut(test=(), rule="No image was held out")
    test: list[int] = []
    carried = 0
    has_rig = False
    images = _Images(*(capture.column(key) for key in ("camera", "timestamp", "name")))
    for segment in capture.segments.values():
        instants = _instants(images, segment)
        has_rig |= any(len(instant) > 1 for instant in instants)
        start = 0 if len(instants) >= test_every else carried
        test += [i for number, instant in enumerate(instants, start) if _is_chosen(number, test_every) for i in instant]
        carried += len(instants) if len(instants) < test_every else 0
    instants_text = "instant of each segment was held out, with all its cameras"
    what = instants_text if has_rig else "image of each segment was held out"
    return HeldOut(test=tuple(sorted(test)), rule=f"Every {ordinal(test_every)} {what}")


def ordinal(number: int) -> str:
    """Return a number as an ordinal.

    >>> ordinal(2), ordinal(8), ordinal(11), ordinal(23)
    ('2nd', '8th', '11th', '23rd')
    """
    return f"{number}{'th' if 10 <= number % 100 <= 20 else _ENDINGS.get(number % 10, 'th')}"


def _is_chosen(number: int, test_every: int) -> bool:
    return number % test_every == test_every // 2


def _as_listed(splits: Sequence[Split | None]) -> HeldOut:
    """Return the frames that the capture lists for testing, else those for validation."""
    test, val = (tuple(i for i, own in enumerate(splits) if own == split) for split in ("test", "val"))
    if test:
        return HeldOut(test=test, unused=val, rule="The images listed for testing were held out")
    rule = "The images listed for validation were held out" if val else "All images are listed for training"
    return HeldOut(test=val, rule=rule)


def _instants(images: _Images, segment: Sequence[int]) -> list[list[int]]:
    """Return the frames of each instant of a segment, in order; the camera with most images sets the instants."""
    indices: dict[str, list[int]] = {}
    for i in segment:
        indices.setdefault(images.cameras[i], []).append(i)
    cameras = [_in_order(images, camera) for camera in indices.values()]
    cameras.sort(key=lambda camera: _order(images, camera[0]))
    reference = max(cameras, key=len)
    instants: list[list[int]] = [[] for _ in reference]
    for camera in cameras:
        for number, i in zip(_numbers(images, camera, reference), camera, strict=True):
            instants[number].append(i)
    return instants


def _in_order(images: _Images, camera: Sequence[int]) -> list[int]:
    """Return the images of one camera in the order of `_order`; names, which take long to compare, only if needed."""
    times = {i: time for i in camera if (time := images.times[i]) is not None}
    if len(set(times.values())) == len(camera):
        return sorted(times, key=times.__getitem__)
    return sorted(camera, key=lambda i: _order(images, i))


def _order(images: _Images, index: int) -> tuple:
    time = images.times[index]
    return (time is None, time or 0.0, natural_sort_key(images.names[index]))


def _numbers(images: _Images, camera: Sequence[int], reference: Sequence[int]) -> Iterator[int]:
    """Yield the instant of each image of a camera: the nearest in time, else the one with its number."""
    times = [images.times[i] for i in (*reference, *camera)]
    if len(camera) == len(reference) or None in times:
        yield from range(len(camera))
        return
    values = np.array(times, dtype=np.float64)
    clock, own = values[: len(reference)], values[len(reference) :]
    later = np.searchsorted(clock, own).clip(1, len(clock) - 1) if len(clock) > 1 else np.zeros(len(own), np.int64)
    is_earlier = own - clock[later - 1] <= clock[later] - own
    # The first instant, if several have the same time.
    yield from np.searchsorted(clock, clock[later - is_earlier]).tolist()
