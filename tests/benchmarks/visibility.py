"""Visibility against the truth, in a run of the sample city: the experiment behind `City.visibility_threshold`.

    python -m tests.benchmarks.visibility runs/mini_city

Prediction: what the network says of points on rays of photographs that it did not train on, in front of what
they show (transmittance one) and behind it (zero): correlation, and a table of predicted against true.

Culling: views of photographs that were held out, and of visitors who stand anywhere in the streets and look
anywhere. A block is of use where its training cameras see, unobstructed, the asked share of the surfaces in the
view. For each threshold, at any distance, and for each selection radius alone: how many of the blocks kept are of use
(precision), how many of those of use in the radius are kept (recall), and how many of the views that any block is
of use for keep one, where none is left the nearest (served).

The route `main` is one straight street, where every block sees most of every view; a tour tells more. The figures
in `blocknerf/city/manifest.py` are from these, with 60 views of each kind:

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
from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.block_scoring import low_res_camera
from blocknerf.city.manifest import City, read_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import horizontal_distance
from blocknerf.partition.frame_assignment import FrameAssignment, read_assignment
from blocknerf.rendering.image import render_proposals
from blocknerf.rendering.protocol import Field
from blocknerf.town.field import TownField
from blocknerf.town.sample import read_spec
from blocknerf.town.town import Town

THRESHOLDS = (0.0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3)
RADII = (0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
RAYS = 4000
"""Rays of each block's held-out photographs; each is asked in front of what it meets and behind."""
REACH = 20.0
"""How far behind a surface (m) the network is still asked, and how far sky rays count as free."""
CLEAR = 0.3
"""Points nearer to a surface (m) are neither in front of nor behind it, at the width of the field's samples."""
SLACK = 0.1
"""A camera sees a point if nothing stands in the way until this close to it (m)."""
AROUND = 12.0
"""Visitors stand this far (m) beyond the photographs at most."""
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One block in one view."""

    predicted: float
    """Mean visibility over the view, as culling sees it."""
    seen: float
    """Share of the view's surfaces that the block's training cameras see."""
    away: float
    """From the camera to the block's origin, in radii."""
    view: int
    visitor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A run of the sample city, and the town it shows."""

    town: Town
    capture: Capture
    city: City
    renderer: CityRenderer
    members: dict[str, FrameAssignment]


def main() -> None:
    """Print the tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run of the sample city")
    parser.add_argument("--views", type=int, default=60, help="photographs, and as many visitors")
    parser.add_argument(
        "--share", type=float, default=0.25, help="of a view's surfaces that a block worth keeping sees"
    )
    options = parser.parse_args()
    sample = open_sample(options.run)
    generator = torch.Generator().manual_seed(0)
    points = {block.name: ask_points(sample, block.name, generator) for block in sample.city.blocks}
    calibration = print_calibration(points)
    trials = try_culling(sample, options.views, generator)
    culling = {
        name: print_culling([trial for trial in trials if trial.visitor == visitor], options.share, sample.city)
        for name, visitor in (("photographs", False), ("visitors", True))
    }
    print(json.dumps({"benchmark": "visibility", "share": options.share, **calibration, "culling": culling}))


def open_sample(path: Path) -> Sample:
    run = RunFolder(path)
    capture, city = read_capture(run.capture), read_city(run.city)
    spec = read_spec(capture.image_dir)
    if spec is None:
        raise SystemExit(f"{path}: is no run of the sample city, whose truth is known; train one first")
    return Sample(
        town=Town.build(spec.seed, changed_building=spec.changed_building),
        capture=capture,
        city=city,
        renderer=CityRenderer(run),
        members={block.name: read_assignment(run.frames(block.name), capture) for block in city.blocks},
    )


@torch.no_grad()
def ask_points(
    sample: Sample, block: str, generator: torch.Generator
) -> tuple[Float[Tensor, "points"], Float[Tensor, "points"]]:
    """Predicted and true transmittance of points on rays of a block's held-out photographs."""
    field, rays = sample.renderer.cache.get(block).field, photo_rays(sample, block, generator)
    depth = sample.town.measure(rays)
    share = torch.rand(len(rays), generator=generator)
    before = field.near + share * (depth.clamp_max(3 * REACH) - CLEAR - field.near)
    behind = depth + CLEAR + share * (REACH - CLEAR)
    met = depth.isfinite()
    front = ask(field, rays, before)
    back = ask(field, rays[met], behind[met])
    return torch.cat([front, back]), torch.cat([torch.ones_like(front), torch.zeros_like(back)])


def ask(field: Field, rays: RayBundle, distances: Float[Tensor, "rays"]) -> Float[Tensor, "rays"]:
    points = rays.origins + distances[:, None] * rays.directions
    return field.visibility(points[:, None], rays.directions)[:, 0]


def photo_rays(sample: Sample, block: str, generator: torch.Generator) -> RayBundle:
    """Rays through random pixels of a block's held-out photographs, none of them masked."""
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
    """Every block in views of both kinds."""
    photographs, visitors = photograph_views(sample, count), visitor_views(sample, count, generator)
    views = [(view, False) for view in photographs] + [(view, True) for view in visitors]
    rays = [view.generate_rays(0).flatten() for view, _ in views]
    depths = [sample.town.measure(each) for each in rays]
    met = [depth.isfinite() for depth in depths]
    surfaces = [
        each.origins[hit] + depth[hit, None] * each.directions[hit]
        for each, depth, hit in zip(rays, depths, met, strict=True)
    ]
    trials = []
    for block in sample.city.blocks:
        cameras = sample.capture.cameras()[torch.tensor(sample.members[block.name].frames)]
        seen = sees(sample.town, cameras, torch.cat(surfaces)).split([len(each) for each in surfaces])
        field = sample.renderer.cache.get(block.name).field
        for number, ((view, visitor), share) in enumerate(zip(views, seen, strict=True)):
            x, y, z = view.centers[0].tolist()
            trials.append(
                Trial(
                    predicted=float(render_proposals(field, view).visibility.mean()),
                    seen=float(share.float().mean()) if len(share) else 0.0,
                    away=horizontal_distance((x, y, z), block) / block.radius,
                    view=number,
                    visitor=visitor,
                )
            )
    return trials


def sees(town: Town, cameras: Cameras, points: Float[Tensor, "points 3"]) -> Bool[Tensor, "points"]:
    """Which points lie in the view of any camera with nothing in between."""
    seen = torch.zeros(len(points), dtype=torch.bool)
    for i in range(len(cameras)):
        asked = (~seen).nonzero()[:, 0]
        asked = asked[cameras.project(points[asked], i)[2]]
        offsets = points[asked] - cameras.centers[i]
        lengths = offsets.norm(dim=-1)
        rays = RayBundle(
            origins=cameras.centers[i].expand_as(offsets),
            directions=offsets / lengths[:, None],
            pixel_radii=torch.zeros_like(lengths),
        )
        seen[asked] = town.measure(rays) > lengths - SLACK
    return seen


def photograph_views(sample: Sample, count: int) -> list[Cameras]:
    """Held-out photographs, evenly spread: every n-th would fall in step with the cameras of the rig."""
    held_out = [i for i in range(len(sample.capture)) if sample.city.is_test_frame(i)]
    chosen = torch.linspace(0, len(held_out) - 1, min(count, len(held_out))).round().int().tolist()
    cameras = sample.capture.cameras()
    return [low_res_camera(cameras[held_out[i]]) for i in chosen]


def visitor_views(sample: Sample, count: int, generator: torch.Generator) -> list[Cameras]:
    """Cameras anywhere around the photographs, not within a wall, that look in any direction along the ground."""
    centers = sample.capture.cameras().centers
    low, high = centers.amin(0) - AROUND, centers.amax(0) + AROUND
    low[2], high[2] = 1.5, 6.0
    solid, eyes = TownField(sample.town), []
    while len(eyes) < count:
        eye = low + torch.rand(3, generator=generator) * (high - low)
        if float(solid.density(eye[None], torch.full((1,), 1.0))[0]) == 0.0:
            eyes.append(eye)
    places, turns = torch.stack(eyes), torch.rand(count, generator=generator) * 2 * torch.pi
    ahead = torch.stack([turns.cos(), turns.sin(), torch.zeros(count)], -1)
    size = sample.capture.frames[0].intrinsics
    cameras = Cameras.pinhole(look_at(places, places + ahead), focal=size.fx, width=size.width, height=size.height)
    return [low_res_camera(cameras[i]) for i in range(count)]


def print_culling(trials: list[Trial], share: float, city: City) -> dict[str, object]:
    """Figures of every threshold at any distance, of every radius without a threshold, and of the run's own."""
    useful = [trial for trial in trials if trial.seen >= share]
    alike = correlation(torch.tensor([t.predicted for t in trials]), torch.tensor([t.seen for t in trials]))
    print(
        f"\n{'visitors' if trials[0].visitor else 'photographs'}: {len(trials)} blocks in views, {len(useful)} useful"
    )
    print(f"correlation of predicted visibility and share seen: {alike:.3f}")
    print("radius  threshold  kept  precision  recall  served")
    settings = [(math.inf, threshold) for threshold in THRESHOLDS]
    settings += [(radius, 0.0) for radius in RADII]
    settings += [(city.selection_radius, city.visibility_threshold)]
    rows = []
    for radius, threshold in settings:
        row = [radius, threshold, *judge(trials, share, radius, threshold)]
        print("{:6.2f}  {:9.2f}  {:4}  {:9.1%}  {:6.1%}  {:6.1%}".format(*row))
        rows.append([None if figure == math.inf else round(figure, 4) for figure in row])
    return {"correlation": round(alike, 4), "rows": rows}


def judge(trials: list[Trial], share: float, radius: float, threshold: float) -> tuple[int, float, float, float]:
    """Blocks kept, precision, recall, and views served."""
    near = [trial for trial in trials if trial.away < radius]
    kept = [trial for trial in near if trial.predicted >= threshold]
    right = [trial for trial in kept if trial.seen >= share]
    wanted = sum(trial.seen >= share for trial in near)
    could = {trial.view for trial in trials if trial.seen >= share}
    left = {trial.view for trial in kept}
    nearest = {trial.view: trial for trial in sorted(trials, key=lambda trial: -trial.away)}
    stand_ins = {view for view, trial in nearest.items() if view not in left and trial.seen >= share}
    served = len({trial.view for trial in right} | stand_ins) / max(1, len(could))
    return len(kept), len(right) / max(1, len(kept)), len(right) / max(1, wanted), served


if __name__ == "__main__":
    main()
