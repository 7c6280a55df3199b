"""What a visibility threshold culls in a trained run: the experiment behind `City.visibility_threshold`.

    python tests/benchmarks/visibility_threshold.py runs/mini_city

Every held-out photograph is rendered by each block around its camera alone. A block is of no use for a view
where it scores 3 dB or more below the best one. For each threshold: the share of such blocks that is culled,
the share of useful blocks that is culled with them, and the score of the blended picture.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.manifest import RunFolder, read_city
from blocknerf.city.renderer import CityRenderer

THRESHOLDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
USELESS_DB = 3.0
SIDE = 96
"""Longest side of the pictures compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One block in one view."""

    visibility: float
    loss_db: float
    """How much worse than the best block of the view it is."""


def psnr(picture: Tensor, photo: Tensor) -> float:
    return float(-10.0 * (picture - photo).square().mean().clamp_min(1e-10).log10())


def photograph(capture: Capture, index: int, downscale: int) -> Tensor:
    return torch.from_numpy(capture.read_image(index, downscale)).float() / 255.0


def try_blocks(renderer: CityRenderer, capture: Capture, index: int, downscale: int) -> list[Trial]:
    """Each block around a held-out camera, alone."""
    view = capture.cameras()[index].scaled(1.0 / downscale)
    photo, segment = photograph(capture, index, downscale), capture.frames[index].segment
    seen = [use for use in renderer.select(view) if use.visibility is not None]
    scores = []
    for use in seen:
        only = replace(renderer.city, blocks=(renderer.city.block(use.name),))
        alone = CityRenderer(renderer.run, city=only, load=renderer.cache.get)
        scores.append(psnr(alone.render(view, segment=segment).color, photo))
    return [
        Trial(visibility=use.visibility or 0.0, loss_db=max(scores) - score)
        for use, score in zip(seen, scores, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a trained run of two blocks or more")
    parser.add_argument("--views", type=int, default=24, help="held-out photographs to try")
    options = parser.parse_args()
    run = RunFolder(options.run)
    city, capture = read_city(run.city), read_capture(run.capture)
    longest = max(max(frame.intrinsics.width, frame.intrinsics.height) for frame in capture.frames)
    downscale = max(1, longest // SIDE)
    held_out = [i for i in range(len(capture)) if city.is_held_out(i)]
    # Evenly spread and not every n-th: n may fall in step with the cameras of a rig.
    chosen = torch.linspace(0, len(held_out) - 1, min(options.views, len(held_out))).round().int().tolist()
    held_out = [held_out[i] for i in chosen]
    # The digest of the city that was trained opens the files; only the threshold in memory is another.
    loader = CityRenderer(run).cache.get
    probe = CityRenderer(run, city=replace(city, visibility_threshold=1e-6), load=loader)
    trials = [trial for i in held_out for trial in try_blocks(probe, capture, i, downscale)]
    useless = [trial.visibility for trial in trials if trial.loss_db >= USELESS_DB]
    useful = [trial.visibility for trial in trials if trial.loss_db < USELESS_DB]
    rows = []
    print(f"{len(held_out)} views, {len(useful)} useful blocks and {len(useless)} of no use in them")
    print("threshold  of no use: culled  useful: culled  blended PSNR")
    for threshold in THRESHOLDS:
        renderer = CityRenderer(run, city=replace(city, visibility_threshold=threshold), load=loader)
        scores = []
        for i in held_out:
            view = capture.cameras()[i].scaled(1.0 / downscale)
            picture = renderer.render(view, segment=capture.frames[i].segment).color
            scores.append(psnr(picture, photograph(capture, i, downscale)))
        row = [threshold, share_below(useless, threshold), share_below(useful, threshold), sum(scores) / len(scores)]
        print("{:9.2f}  {:16.0%}  {:14.0%}  {:9.2f} dB".format(*row))
        rows.append(row)
    print(json.dumps({"benchmark": "visibility_threshold", "rows": rows}))


def share_below(values: list[float], threshold: float) -> float:
    return sum(value < threshold for value in values) / max(1, len(values))


if __name__ == "__main__":
    main()
