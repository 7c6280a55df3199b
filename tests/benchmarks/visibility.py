"""Predicted against true visibility in a run of the sample city: the experiment behind `City.visibility_threshold`.

    python -m tests.benchmarks.visibility runs/mini_city

Prediction: the visibility network at points on rays of held-out images, in front of the surface (transmittance one) and
behind it (zero): correlation, and a table of predicted against true values.

Culling: views of held-out images, and random views in the streets. A block is useful if its training cameras see,
unobstructed, a given fraction of the surfaces in the view. For each threshold at any distance, and for each selection
radius alone: the fraction of kept blocks that are useful (precision), the fraction of useful blocks in the radius that
are kept (recall), and the fraction of views with a useful block that keep one, or fall back to it as nearest (served).

The route `main` is one straight street, where every block sees most of every view; a tour is more informative. The
figures in `blocknerf/city/manifest.py` are from these commands, with 60 views of each kind:

    blocknerf sample tour --route tour --drives 2 --positions 40 --width 128 --height 72
    blocknerf ingest tour runs/tour
    blocknerf partition runs/tour --radius 20
    blocknerf train runs/tour
    python -m tests.benchmarks.visibility runs/tour --views 60
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle, look_at
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.manifest import City, read_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import horizontal_distance, low_res_camera
from blocknerf.partitioning.frame_assignment import FrameAssignment, read_assignment
from blocknerf.rendering.image import render_proposals
from blocknerf.rendering.protocol import Field
from blocknerf.town.field import TownField
from blocknerf.town.sample import read_spec
from blocknerf.town.town import Town

THRESHOLDS = (0.0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3)
RADII = (0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
RAYS = 4000
"""Rays of held-out images per block; each is sampled in front of its surface and behind it."""
MAX_DEPTH_BEHIND = 20.0
"""Maximum depth of samples behind a surface (m); sky rays are sampled up to three times this."""
SURFACE_MARGIN = 0.3
"""Minimum distance of samples from the surface (m), about the width of the field's samples."""
DEPTH_TOLERANCE = 0.1
"""A camera sees a point if the ray is free up to this distance from it (m)."""
VIEW_MARGIN = 12.0
"""Random views are at most this far (m) outside the bounds of the captured images."""
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One block in one view."""

    predicted: float
    """Mean predicted visibility over the view, as in culling."""
    visible: float
    """Fraction of the view's surfaces that the block's training cameras see."""
    distance: float
    """Distance of the camera to the block's origin, in radii."""
    view: int
    random: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A run of the sample city, and its town."""

    town: Town
    capture: Capture
    city: City
    renderer: CityRenderer
    members: dict[str, FrameAssignment]


def main() -> None:
    """Print the tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run of the sample city")
    parser.add_argument("--views", type=int, default=60, help="held-out views, and as many random views")
    parser.add_argument("--fraction", type=float, default=0.25, help="visible fraction of surfaces of a useful block")
    options = parser.parse_args()
    sample = open_sample(options.run)
    generator = torch.Generator().manual_seed(0)
    points = {block.name: sample_points(sample, block.name, generator) for block in sample.city.blocks}
    calibration = print_calibration(points)
    trials = try_culling(sample, options.views, generator)
    culling = {
        name: print_culling([trial for trial in trials if trial.random == random], options.fraction, sample.city)
        for name, random in (("held_out", False), ("random", True))
    }
    print(json.dumps({"benchmark": "visibility", "fraction": options.fraction, **calibration, "culling": culling}))


def open_sample(path: Path) -> Sample:
    run = RunFolder(path)
    capture, city = read_capture(run.capture), read_city(run.city)
    spec = read_spec(capture.image_dir)
    if spec is None:
        raise SystemExit(f"{path}: not a run of the sample city, so the truth is unknown; train one first")
    return Sample(
        town=Town.build(spec.seed, changed_building=spec.changed_building),
        capture=capture,
        city=city,
        renderer=CityRenderer(run),
        members={block.name: read_assignment(run.frames(block.name), capture) for block in city.blocks},
    )


@torch.no_grad()
def sample_points(
    sample: Sample, block: str, generator: torch.Generator
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points"]]:
    """Return predicted and true transmittance of points on rays of a block's held-out images."""
    field, rays = sample.renderer.cache.get(block).field, held_out_rays(sample, block, generator)
    depth = sample.town.measure(rays)
    fraction = torch.rand(len(rays), generator=generator)
    before = field.near + fraction * (depth.clamp_max(3 * MAX_DEPTH_BEHIND) - SURFACE_MARGIN - field.near)
    behind = depth + SURFACE_MARGIN + fraction * (MAX_DEPTH_BEHIND - SURFACE_MARGIN)
    hit = depth.isfinite()
    front = predict(field, rays, before)
    back = predict(field, rays[hit], behind[hit])
    return torch.cat([front, back]), torch.cat([torch.ones_like(front), torch.zeros_like(back)])


def predict(field: Field, rays: RayBundle, distances: Float[Tensor, "rays"]) -> Float[Tensor, "rays"]:
    points = rays.origins + distances[:, None] * rays.directions
    return field.visibility(points[:, None], rays.directions)[:, 0]


def held_out_rays(sample: Sample, block: str, generator: torch.Generator) -> RayBundle:
    """Return rays through random unmasked pixels of a block's held-out images."""
    held_out = torch.tensor(sample.members[block].test_frames)
    frames = held_out[torch.randint(len(held_out), (RAYS,), generator=generator)]
    cameras = sample.capture.cameras()
    size = torch.stack([cameras.width, cameras.height], -1)[frames]
    pixels = torch.rand(RAYS, 2, generator=generator) * size
    masks = {frame: sample.capture.read_mask(frame) for frame in held_out.tolist()}
    usable = [
        mask is None or bool(mask[int(y), int(x)])
        for (x, y), mask in zip(pixels.tolist(), (masks[frame] for frame in frames.tolist()), strict=True)
    ]
    kept = torch.tensor(usable)
    return cameras.rays(frames[kept], pixels[kept])


def print_calibration(points: dict[str, tuple[Tensor, Tensor]]) -> dict[str, object]:
    print("block  points  correlation  mean error  in front  behind")
    for block, (predicted, true) in points.items():
        figures = correlation(predicted, true), float((predicted - true).abs().mean())
        means = float(predicted[true == 1].mean()), float(predicted[true == 0].mean())
        print("{:5}  {:6}  {:11.3f}  {:10.3f}  {:8.3f}  {:6.3f}".format(block, len(true), *figures, *means))
    predicted, true = (torch.cat(parts) for parts in zip(*points.values(), strict=True))
    bins = (predicted * BINS).long().clamp_max(BINS - 1)
    rows = []
    print("predicted    points  mean predicted  true")
    for i in range(BINS):
        inside = bins == i
        row = [int(inside.sum()), float(predicted[inside].mean()), float(true[inside].mean())]
        print("{:3.1f} to {:3.1f}  {:7}  {:14.3f}  {:5.3f}".format(i / BINS, (i + 1) / BINS, *row))
        rows.append([round(figure, 4) for figure in row])
    return {"correlation": round(correlation(predicted, true), 4), "calibration": rows}


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


@torch.no_grad()
def try_culling(sample: Sample, count: int, generator: torch.Generator) -> list[Trial]:
    """Return a trial for every block in views of both kinds."""
    held_out, random_views = held_out_views(sample, count), views_in_streets(sample, count, generator)
    views = [(view, False) for view in held_out] + [(view, True) for view in random_views]
    rays = [view.generate_rays(0).flatten() for view, _ in views]
    depths = [sample.town.measure(bundle) for bundle in rays]
    hits = [depth.isfinite() for depth in depths]
    surfaces = [
        bundle.origins[hit] + depth[hit, None] * bundle.directions[hit]
        for bundle, depth, hit in zip(rays, depths, hits, strict=True)
    ]
    trials = []
    for block in sample.city.blocks:
        cameras = sample.capture.cameras()[torch.tensor(sample.members[block.name].frames)]
        visible = visible_points(sample.town, cameras, torch.cat(surfaces)).split([len(points) for points in surfaces])
        field = sample.renderer.cache.get(block.name).field
        for number, ((view, random), mask) in enumerate(zip(views, visible, strict=True)):
            x, y, z = view.centers[0].tolist()
            trials.append(
                Trial(
                    predicted=float(render_proposals(field, view).visibility.mean()),
                    visible=float(mask.float().mean()) if len(mask) else 0.0,
                    distance=horizontal_distance((x, y, z), block) / block.radius,
                    view=number,
                    random=random,
                )
            )
    return trials


def visible_points(town: Town, cameras: Cameras, points: Float[Tensor, "points 3"]) -> Bool[Tensor, "points"]:
    """Return which points any camera sees without occlusion."""
    visible = torch.zeros(len(points), dtype=torch.bool)
    for i in range(len(cameras)):
        candidates = (~visible).nonzero()[:, 0]
        candidates = candidates[cameras.project(points[candidates], i)[2]]
        offsets = points[candidates] - cameras.centers[i]
        lengths = offsets.norm(dim=-1)
        rays = RayBundle(
            origins=cameras.centers[i].expand_as(offsets),
            directions=offsets / lengths[:, None],
            pixel_radii=torch.zeros_like(lengths),
        )
        visible[candidates] = town.measure(rays) > lengths - DEPTH_TOLERANCE
    return visible


def held_out_views(sample: Sample, count: int) -> list[Cameras]:
    """Return evenly spaced views of held-out images; every n-th would alias with the cameras of the rig."""
    held_out = [i for i in range(len(sample.capture)) if sample.city.is_test_frame(i)]
    indices = torch.linspace(0, len(held_out) - 1, min(count, len(held_out))).round().int().tolist()
    cameras = sample.capture.cameras()
    return [low_res_camera(cameras[held_out[i]]) for i in indices]


def views_in_streets(sample: Sample, count: int, generator: torch.Generator) -> list[Cameras]:
    """Return random cameras around the captured images, outside solids, that look horizontally."""
    centers = sample.capture.cameras().centers
    low, high = centers.amin(0) - VIEW_MARGIN, centers.amax(0) + VIEW_MARGIN
    low[2], high[2] = 1.5, 6.0
    field, positions = TownField(sample.town), []
    while len(positions) < count:
        position = low + torch.rand(3, generator=generator) * (high - low)
        if float(field.density(position[None], torch.full((1,), 1.0))[0]) == 0.0:
            positions.append(position)
    centers, angles = torch.stack(positions), torch.rand(count, generator=generator) * 2 * torch.pi
    ahead = torch.stack([angles.cos(), angles.sin(), torch.zeros(count)], -1)
    size = sample.capture.frames[0].intrinsics
    cameras = Cameras.pinhole(look_at(centers, centers + ahead), focal=size.fx, width=size.width, height=size.height)
    return [low_res_camera(cameras[i]) for i in range(count)]


def print_culling(trials: list[Trial], fraction: float, city: City) -> dict[str, object]:
    """Print a row per threshold at any distance, per radius without threshold, and for the settings of the run."""
    useful = [trial for trial in trials if trial.visible >= fraction]
    agreement = correlation(torch.tensor([t.predicted for t in trials]), torch.tensor([t.visible for t in trials]))
    kind = "random views" if trials[0].random else "held-out views"
    print(f"\n{kind}: {len(trials)} blocks in views, {len(useful)} useful")
    print(f"correlation of predicted visibility and visible fraction: {agreement:.3f}")
    print("radius  threshold  kept  precision  recall  served")
    settings = [(math.inf, threshold) for threshold in THRESHOLDS]
    settings += [(radius, 0.0) for radius in RADII]
    settings += [(city.selection_radius, city.visibility_threshold)]
    rows = []
    for radius, threshold in settings:
        row = [radius, threshold, *evaluate_culling(trials, fraction, radius, threshold)]
        print("{:6.2f}  {:9.2f}  {:4}  {:9.1%}  {:6.1%}  {:6.1%}".format(*row))
        rows.append([None if figure == math.inf else round(figure, 4) for figure in row])
    return {"correlation": round(agreement, 4), "rows": rows}


def evaluate_culling(
    trials: list[Trial], fraction: float, radius: float, threshold: float
) -> tuple[int, float, float, float]:
    """Return the number of kept blocks, precision, recall, and fraction of views served."""
    near = [trial for trial in trials if trial.distance < radius]
    kept = [trial for trial in near if trial.predicted >= threshold]
    useful = [trial for trial in kept if trial.visible >= fraction]
    relevant = sum(trial.visible >= fraction for trial in near)
    servable = {trial.view for trial in trials if trial.visible >= fraction}
    kept_views = {trial.view for trial in kept}
    nearest = {trial.view: trial for trial in sorted(trials, key=lambda trial: -trial.distance)}
    fallbacks = {view for view, trial in nearest.items() if view not in kept_views and trial.visible >= fraction}
    served = len({trial.view for trial in useful} | fallbacks) / max(1, len(servable))
    return len(kept), len(useful) / max(1, len(kept)), len(useful) / max(1, relevant), served


if __name__ == "__main__":
    main()
