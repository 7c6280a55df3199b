"""The job that generates a sample capture: an analytic town with known geometry."""

from math import isqrt
from pathlib import Path

from blocknerf.errors import OptionError, RunError
from blocknerf.files import atomic_folder
from blocknerf.options import check_number, check_whole
from blocknerf.town.rig import EXPOSURE_JITTER, Route
from blocknerf.town.sample import read_spec, write_sample
from blocknerf.town.town import Town
from blocknerf.town.traffic import Traffic
from blocknerf.town.views import SampleSpec, plan_views
from pipelines.console import log, progress


def sample(
    out: Path,
    *,
    width: int = 192,
    height: int = 108,
    drives: int = 3,
    positions: int = 38,
    route: Route = "main",
    field_of_view: float = 80.0,
    exposure_jitter: float = EXPOSURE_JITTER,
    traffic: Traffic = "light",
    translation_noise: float = 0.0,
    rotation_noise: float = 0.0,
    seed: int = 0,
    changed_building: int | None = None,
    samples_per_pixel: int = 4,
    jpeg_quality: int = 86,
) -> Path:
    """Generate a sample capture: images of a small town, with poses, masks, exposures, points and a street map.

    The same options give the same bytes. Skipped if the folder already contains this sample.

    Args:
        out: Output folder; must be new or empty.
        width: Image width in pixels.
        height: Image height in pixels.
        drives: Number of drives. They alternate in time of day (noon, dusk, overcast) and direction.
        positions: Positions along each drive. Each of the three cameras takes one image per position.
        route: main follows the main street; tour also turns into the side streets.
        field_of_view: Horizontal field of view in degrees.
        exposure_jitter: Maximum deviation of a drive's exposure from that of its time of day, in stops. From about 1,
            the exposure no longer indicates the time of day.
        traffic: light adds two oncoming cars to each drive; dense fills the oncoming lane.
        translation_noise: Length of a translation added to the poses of each drive, in meters.
        rotation_noise: Angle of a rotation of the poses of each drive about their center, in degrees.
        seed: Random seed of the town.
        changed_building: Number of a building to replace by another one. Default: none.
        samples_per_pixel: Rays per pixel on a regular grid; must be a square number.
        jpeg_quality: JPEG quality, 1 to 95.

    Returns:
        The folder.

    Raises:
        OptionError: An option is out of range.
        RunError: The folder contains something else.
    """
    spec = SampleSpec(
        width=width,
        height=height,
        drives=drives,
        positions=positions,
        route=route,
        field_of_view=field_of_view,
        exposure_jitter=exposure_jitter,
        traffic=traffic,
        translation_noise=translation_noise,
        rotation_noise=rotation_noise,
        seed=seed,
        changed_building=changed_building,
        samples_per_pixel=samples_per_pixel,
        jpeg_quality=jpeg_quality,
    )
    _check(spec)
    if _contains(out, spec):
        log(f"skipping: {out} exists")
        return out
    town = Town.build(seed, changed_building=changed_building)
    with atomic_folder(out) as part:
        views = list(progress(write_sample(town, part, spec), "images", len(plan_views(spec))))
    log(f"{len(views)} images from {drives} drive{'' if drives == 1 else 's'} -> {out}")
    return out


def _check(spec: SampleSpec) -> None:
    """Raise if options are out of range or cannot be combined.

    Raises:
        OptionError: An option is out of range; the message names it and its range.
        RunError: The route and the traffic cannot be combined.
    """
    ranges = {
        "width": (8, 8192),
        "height": (8, 8192),
        "drives": (1, 1000),
        "positions": (1, 10_000),
        "field_of_view": (10, 150),
        "exposure_jitter": (0, 4),
        "translation_noise": (0, 100),
        "rotation_noise": (0, 180),
        "samples_per_pixel": (1, 64),
        "jpeg_quality": (1, 95),
    }
    for name, (least, most) in ranges.items():
        check_number(least=least, most=most, **{name: getattr(spec, name)})
    if isqrt(spec.samples_per_pixel) ** 2 != spec.samples_per_pixel:
        raise OptionError(f"--samples-per-pixel {spec.samples_per_pixel} is not a square number; give 1, 4, 9 or 16")
    check_whole(least=0, seed=spec.seed, changed_building=spec.changed_building)
    if spec.traffic == "dense" and spec.route != "main":
        raise RunError("sample: --route tour crosses the oncoming lane, so it needs --traffic light; change one")


def _contains(out: Path, spec: SampleSpec) -> bool:
    """Return whether a folder contains the sample; False if it is new or empty.

    Raises:
        RunError: It contains something else.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: this is a file; give a folder for the sample")
    if not out.is_dir() or not any(out.iterdir()):
        return False
    existing = read_spec(out)
    if existing == spec:
        return True
    contents = "files that are not a sample capture" if existing is None else "a sample capture with other options"
    raise RunError(f"{out}: contains {contents}; give a new or empty folder")
