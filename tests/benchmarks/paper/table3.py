"""Comparison of blend weightings on a trained run, on held-out images and in a video.

    python -m tests.benchmarks.paper.table3 RUN [RUN ...] [--frames 120] [--max-frames N] [--out FILE]

Several runs are trainings of one city with different seeds. `psnr` and `ssim` are of right halves of held-out images:
the code of every block that any weighting uses is fitted to the left half once, and all weightings blend the same
renderings. `psnr_shared` counts only images in which the second block has a weight of at least 0.1 by inverse distance.

`temporal` is of a video along the camera path, with the default appearance preset (`blocknerf match`) if it exists: the
change between frames due to changing blend weights (root mean square), relative to the change of one block's frames due
to camera motion. 0 is as steady as a single block. `peak` is the maximum change between consecutive frames, relative to
that of one block.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

import numpy as np  # noqa: E402
from jaxtyping import Float  # noqa: E402

from blocknerf.capture.capture_file import read_capture  # noqa: E402
from blocknerf.city.appearance_track import default_preset, resolve_appearance  # noqa: E402
from blocknerf.city.manifest import WEIGHTINGS, Weighting  # noqa: E402
from blocknerf.city.renderer import CityRenderer, CityRendering  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.json_file import read_json  # noqa: E402
from blocknerf.metrics import psnr, ssim  # noqa: E402
from pipelines.evaluate import EvalImage, evenly_spaced, fit_codes  # noqa: E402
from pipelines.video_defaults import default_path, video_size  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, publish, summary  # noqa: E402
from tests.benchmarks.paper.trials import held_out_images  # noqa: E402

SHARED = 0.1
REFERENCE: Weighting = "inverse_distance_2d"
Views = Mapping[Weighting, CityRendering]


def still_scores(run: RunFolder, max_frames: int | None) -> dict[str, dict[str, float | None]]:
    """Return PSNR and SSIM of each weighting over held-out images."""
    capture, renderer = read_capture(run.capture), CityRenderer(run)
    images = held_out_images(run, capture)
    values: dict[str, list[tuple[float | None, float, bool]]] = {rule: [] for rule in WEIGHTINGS}
    for index in evenly_spaced(list(range(len(images))), max_frames or len(images)):
        image = images[index]
        views = render_weightings(renderer, image)
        shared = sorted(use.weight for use in views[REFERENCE].rendered)[-2:-1]
        for rule, view in views.items():
            rendering, photo = view.color[:, image.center :], image.photo[:, image.center :]
            values[rule].append((psnr(rendering, photo), ssim(rendering, photo), bool(shared) and shared[0] >= SHARED))
    return {rule: _means(scores) for rule, scores in values.items()}


def render_weightings(renderer: CityRenderer, image: EvalImage) -> Views:
    """Return the renderings of an image by each weighting, with the same codes."""
    names = {use.name for rule in WEIGHTINGS for use in renderer.select(image.camera, weighting=rule) if use.rendered}
    codes = fit_codes(renderer, image, sorted(names))
    options = {"frame": image.name, "codes": codes, "pose_segment": image.pose_segment}
    return {rule: renderer.render(image.camera, weighting=rule, **options) for rule in WEIGHTINGS}


def video_scores(run: RunFolder, num_frames: int, width: int | None) -> dict[str, dict[str, float]]:
    """Return the temporal scores of a video by each weighting."""
    capture, renderer = read_capture(run.capture), CityRenderer(run)
    size = video_size(capture, run, None, width, None)
    cameras = default_path(capture, renderer.city.preset, size, (), None, num_frames, None, None).cameras
    names = tuple(filter(None, [default_preset(run, None)]))
    track = resolve_appearance(run, renderer.city, capture, names, None, None)
    video = []
    for i in range(len(cameras)):
        options = track.render_options_at(i / (len(cameras) - 1), renderer, cameras[i])
        video.append({rule: renderer.render(cameras, i, weighting=rule, **options) for rule in WEIGHTINGS})
    single = [one_block_change(before, after) for before, after in pairwise(video)]
    scores = {}
    for rule in WEIGHTINGS:
        changes = [weight_change(before, after, rule) for before, after in pairwise(video)]
        peaks = [
            float((after[rule].color - before[rule].color).abs().mean()) / max(alone, 1e-9)
            for (before, after), alone in zip(pairwise(video), single, strict=True)
        ]
        temporal = float(np.sqrt(np.mean(np.square(changes)))) / max(mean(single), 1e-9)
        scores[rule] = {"temporal": temporal, "peak": max(peaks)}
    return scores


def one_block_change(before: Views, after: Views) -> float:
    """Return the change of one block's rendering, for the block with the largest weight in both frames."""
    first, second = ({part.name: part for part in views[REFERENCE].parts} for views in (before, after))
    common = first.keys() & second.keys()
    name = max(common, key=lambda block: float(first[block].weight.mean() + second[block].weight.mean()))
    return float((second[name].image.color - first[name].image.color).abs().mean())


def blend_flicker(
    before: Float[np.ndarray, "blocks height width"],
    after: Float[np.ndarray, "blocks height width"],
    renderings: Float[np.ndarray, "blocks height width 3"],
) -> float:
    """Return the change of a frame due to changed blend weights alone: mean absolute difference, 0..1.

    Within one block it is zero for any camera motion, so it separates weightings that flicker or jump from smooth ones.
    Over a transition between blocks, its sum is minimal for monotonic weights, and its root mean square for weights
    that also change slowly.

    Args:
        before: Weights of the blocks in the previous frame; zero for absent blocks.
        after: Weights in this frame.
        renderings: Rendering of each block in this frame.
    """
    return float(np.abs(((after - before)[..., None] * renderings).sum(0)).mean())


def weight_change(before: Views, after: Views, rule: Weighting) -> float:
    """Return the difference between the second frame and the same frame with the weights of the first."""
    first, second = ({part.name: part for part in views[rule].parts} for views in (before, after))
    # A block dropped by this rule may be rendered by another; otherwise the blended frame replaces it.
    known = {part.name: part.image.color for views in after.values() for part in views.parts}
    names, blended = sorted(first.keys() | second.keys()), after[rule].color
    blank = np.zeros(blended.shape[:2], np.float32)
    weights = [
        np.stack([parts[name].weight.numpy() if name in parts else blank for name in names])
        for parts in (first, second)
    ]
    return blend_flicker(*weights, np.stack([known.get(name, blended).numpy() for name in names]))


def _means(values: Sequence[tuple[float | None, float, bool]]) -> dict[str, float | None]:
    shared = [decibels for decibels, _, both in values if both and decibels is not None]
    return {
        "psnr": mean(decibels for decibels, _, _ in values if decibels is not None),
        "ssim": mean(similarity for _, similarity, _ in values),
        "psnr_shared": mean(shared) if shared else None,
    }


def table(
    runs: Sequence[RunFolder], num_frames: int, width: int | None, max_frames: int | None
) -> list[dict[str, Any]]:
    """Return the rows of the result over all runs."""
    values: dict[str, list[dict[str, float | None]]] = {rule: [] for rule in WEIGHTINGS}
    for run in runs:
        still, video = still_scores(run, max_frames), video_scores(run, num_frames, width)
        for rule in WEIGHTINGS:
            values[rule].append({**still[rule], **video[rule]})
            print(f"{run.path.name}, {rule}: {json.dumps(values[rule][-1])}", flush=True)
    return [{"name": rule, **summary(values[rule])} for rule in WEIGHTINGS]


def main() -> None:
    """Print the table and one line of JSON, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--width", type=int)
    parser.add_argument("--max-frames", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "table3.json")
    options = parser.parse_args()
    runs = [RunFolder(path) for path in options.runs]
    rows = table(runs, options.frames, options.width, options.max_frames)
    records = [read_json(run.train_summary(run.trained_blocks()[0]), "training record") for run in runs]
    publish(
        "table3",
        options.out,
        ("name", "psnr", "psnr_shared", "ssim", "temporal", "peak"),
        rows,
        seeds=[record["config"]["seed"] for record in records],
        settings={
            "steps": records[0]["config"]["steps"],
            "frames": options.frames,
            "width": options.width,
            "preset": default_preset(runs[0], None),
        },
    )


if __name__ == "__main__":
    main()
