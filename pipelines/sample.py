"""Make a sample city: a capture of an analytic town with known geometry."""

from pathlib import Path

from blocknerf.capture.synthetic.rig import WANDER, Route
from blocknerf.capture.synthetic.sample import read_spec, write_sample
from blocknerf.capture.synthetic.shots import SampleSpec, plan_shots
from blocknerf.capture.synthetic.town import Town
from blocknerf.capture.synthetic.traffic import Traffic
from blocknerf.errors import RunError
from blocknerf.files import atomic_folder
from blocknerf.options import check_number, check_whole
from pipelines.job import say, tracked


def sample(
    out: Path,
    *,
    width: int = 192,
    height: int = 108,
    drives: int = 3,
    stops: int = 38,
    route: Route = "main",
    field_of_view: float = 80.0,
    exposure_wander: float = WANDER,
    traffic: Traffic = "light",
    pose_error: float = 0.0,
    turn_error: float = 0.0,
    seed: int = 0,
    changed_building: int | None = None,
    supersample: int = 2,
    quality: int = 86,
) -> Path:
    """Write photographs of a small town, with poses, masks, exposures, points and a street map.

    The same options give the same bytes. Nothing is done for a folder that holds this sample already.

    Args:
        out: Folder of the sample; it must be new or empty.
        width: Of the photographs, in pixels.
        height: Of the photographs, in pixels.
        drives: How many; they take turns in hour (noon, dusk, overcast) and direction.
        stops: Places along each drive where all three cameras take a photograph.
        route: Along the main street, or a tour that turns into the side streets.
        field_of_view: From side to side of a photograph, in degrees.
        exposure_wander: How far the exposure of a drive wanders to either side of its hour's, in stops; from about 1
            on it no longer tells the hour.
        traffic: Two cars that come toward the rig in each drive, or a jam in the whole of the lane beside it.
        pose_error: Length of the shift that displaces the poses of each drive, in metres.
        turn_error: Angle by which the poses of each drive are turned about their middle, in degrees.
        seed: Another number gives another town.
        changed_building: Replace the building of this number by another one.
        supersample: Rays along each side of a pixel.
        quality: Of the JPEGs, 1 to 95.

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
        stops=stops,
        route=route,
        field_of_view=field_of_view,
        exposure_wander=exposure_wander,
        traffic=traffic,
        pose_error=pose_error,
        turn_error=turn_error,
        seed=seed,
        changed_building=changed_building,
        supersample=supersample,
        quality=quality,
    )
    _check(spec)
    if _holds(out, spec):
        say(f"done already: {out}")
        return out
    town = Town.build(seed, changed_building=changed_building)
    with atomic_folder(out) as part:
        shots = list(tracked(write_sample(town, part, spec), "photographs", len(plan_shots(spec))))
    say(f"{len(shots)} photographs of {drives} drives in {out}")
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
        "stops": (1, 10_000),
        "field_of_view": (10, 150),
        "exposure_wander": (0, 4),
        "pose_error": (0, 100),
        "turn_error": (0, 180),
        "supersample": (1, 8),
        "quality": (1, 95),
    }
    for name, (least, most) in ranges.items():
        check_number(least=least, most=most, **{name: getattr(spec, name)})
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
