"""Make a sample city: a capture of an analytic town with known geometry."""

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
    """Write photographs of a small town, with poses, masks, exposures, points and a street map.

    The same options give the same bytes. Nothing is done for a folder that holds this sample already.

    Args:
        out: Folder of the sample; it must be new or empty.
        width: Of the photographs, in pixels.
        height: Of the photographs, in pixels.
        drives: How many; they take turns in hour (noon, dusk, overcast) and direction.
        positions: Places along each drive where all three cameras take a photograph.
        route: Along the main street, or a tour that turns into the side streets.
        field_of_view: From side to side of a photograph, in degrees.
        exposure_jitter: How far the exposure of a drive wanders to either side of its hour's, in stops; from about 1
            on it no longer tells the hour.
        traffic: Two cars that come toward the rig in each drive, or a jam in the whole of the lane beside it.
        translation_noise: Length of the shift that displaces the poses of each drive, in metres.
        rotation_noise: Angle by which the poses of each drive are turned about their middle, in degrees.
        seed: Another number gives another town.
        changed_building: Replace the building of this number by another one.
        samples_per_pixel: Rays per pixel, on a regular grid; a square number.
        jpeg_quality: Of the JPEGs, 1 to 95.

    Returns:
        The folder.

    Raises:
        OptionError: an option is out of range.
        RunError: the folder holds something else.
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
    if _holds(out, spec):
        log(f"done already: {out}")
        return out
    town = Town.build(seed, changed_building=changed_building)
    with atomic_folder(out) as part:
        shots = list(progress(write_sample(town, part, spec), "photographs", len(plan_views(spec))))
    log(f"{len(shots)} photographs of {drives} drives in {out}")
    return out


def _check(spec: SampleSpec) -> None:
    """Refuse options out of range.

    Raises:
        OptionError: names the option and its range.
        RunError: the route and the traffic do not go together.
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
        raise RunError("sample: on a tour the car turns left through dense traffic; take light traffic or route main")


def _holds(out: Path, spec: SampleSpec) -> bool:
    """Whether a folder holds the sample; a folder that holds anything else is refused.

    Raises:
        RunError: names the folder.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: this is a file; give a folder for the sample")
    if not out.is_dir() or not any(out.iterdir()):
        return False
    found = read_spec(out)
    if found == spec:
        return True
    held = "files that are not a sample city" if found is None else "a sample city made with other options"
    raise RunError(f"{out}: holds {held}; give a new or empty folder")
