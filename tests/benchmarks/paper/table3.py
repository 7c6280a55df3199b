"""What each weighting of the blocks' pictures is worth, on still photographs and in motion, on a trained run.

    python -m tests.benchmarks.paper.table3 RUN [RUN ...] [--pictures 120] [--max-frames N] [--out FILE]

Several runs are trainings of one city with other seeds. `psnr` and `ssim` are of right halves of held-out photographs:
every block that any weighting takes is fitted to the left half once, and all weightings blend the same pictures, so
nothing but the weighting differs. `psnr_shared` counts only photographs in which the second block has at least a
tenth by inverse distance: in the others there is nothing to weigh.

`temporal` is of a film along the capture's own way, in the run's matched look (`blocknerf match`) if there is one: how
much its pictures change because blocks change hands (root mean square over the film), in units of how much those of
one block alone change because the camera moves. 0 is as calm as one block. `peak` is the largest change from one
picture to the next, in units of the block's alone.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

import numpy as np  # noqa: E402
from jaxtyping import Float  # noqa: E402

from blocknerf.capture.capture import read_capture  # noqa: E402
from blocknerf.city.appearance_track import default_preset, resolve_appearance  # noqa: E402
from blocknerf.city.manifest import WEIGHTINGS, Weighting  # noqa: E402
from blocknerf.city.renderer import CityRenderer, CityRendering  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.files import read_json  # noqa: E402
from blocknerf.metrics.image_quality import psnr, ssim  # noqa: E402
from pipelines.evaluate import EvalImage, evenly_spaced, fit_codes  # noqa: E402
from pipelines.video_defaults import default_path, video_size  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, publish, summary  # noqa: E402
from tests.benchmarks.paper.trials import held_out_exams  # noqa: E402

SHARED = 0.1
REFERENCE: Weighting = "inverse_distance_2d"
Views = Mapping[Weighting, CityRendering]


def still_scores(run: RunFolder, max_frames: int | None) -> dict[str, dict[str, float | None]]:
    """PSNR and SSIM of each weighting over held-out photographs."""
    capture, renderer = read_capture(run.capture), CityRenderer(run)
    exams = held_out_exams(run, capture)
    found: dict[str, list[tuple[float | None, float, bool]]] = {rule: [] for rule in WEIGHTINGS}
    for place in evenly_spaced(list(range(len(exams))), max_frames or len(exams)):
        exam = exams[place]
        views = answers(renderer, exam)
        shared = sorted(use.weight for use in views[REFERENCE].rendered)[-2:-1]
        for rule, view in views.items():
            seen, photo = view.color[:, exam.center :], exam.photo[:, exam.center :]
            found[rule].append((psnr(seen, photo), ssim(seen, photo), bool(shared) and shared[0] >= SHARED))
    return {rule: _means(values) for rule, values in found.items()}


def answers(renderer: CityRenderer, exam: EvalImage) -> Views:
    """What the city makes of a photograph by each weighting, from the same pictures of the same blocks."""
    kept = {use.name for rule in WEIGHTINGS for use in renderer.select(exam.camera, weighting=rule) if use.rendered}
    codes = fit_codes(renderer, exam, sorted(kept))
    options = {"frame": exam.name, "codes": codes, "stretch": exam.pose_segment}
    return {rule: renderer.render(exam.camera, weighting=rule, **options) for rule in WEIGHTINGS}


def film_scores(run: RunFolder, pictures: int, width: int | None) -> dict[str, dict[str, float]]:
    """How calm a film is by each weighting."""
    capture, renderer = read_capture(run.capture), CityRenderer(run)
    size = video_size(capture, run, None, width, None)
    cameras = default_path(capture, renderer.city.preset, size, (), None, pictures, None, None).cameras
    light = resolve_appearance(
        run, renderer.city, capture, tuple(filter(None, [default_preset(run, None)])), None, None
    )
    film = []
    for i in range(len(cameras)):
        shown = light.render_options_at(i / (len(cameras) - 1), renderer, cameras[i])
        film.append({rule: renderer.render(cameras, i, weighting=rule, **shown) for rule in WEIGHTINGS})
    own = [one_block_change(before, after) for before, after in pairwise(film)]
    found = {}
    for rule in WEIGHTINGS:
        moved = [change_of_hands(before, after, rule) for before, after in pairwise(film)]
        peaks = [
            float((after[rule].color - before[rule].color).abs().mean()) / max(alone, 1e-9)
            for (before, after), alone in zip(pairwise(film), own, strict=True)
        ]
        found[rule] = {"temporal": float(np.sqrt(np.mean(np.square(moved)))) / max(mean(own), 1e-9), "peak": max(peaks)}
    return found


def one_block_change(before: Views, after: Views) -> float:
    """How much the picture of one block changes: of the one with the largest share of both pictures."""
    first, second = ({part.name: part for part in views[REFERENCE].parts} for views in (before, after))
    both = first.keys() & second.keys()
    name = max(both, key=lambda each: float(first[each].weight.mean() + second[each].weight.mean()))
    return float((second[name].image.color - first[name].image.color).abs().mean())


def hand_over_change(
    before: Float[np.ndarray, "blocks height width"],
    after: Float[np.ndarray, "blocks height width"],
    pictures: Float[np.ndarray, "blocks height width 3"],
) -> float:
    """How much a picture of the city changes only because its weights do: mean absolute difference, 0..1.

    Through one block it is zero, however the camera moves. So it tells, where a change between pictures that also
    move can not, a weighting that flickers or jumps from one that hands over calmly: over the pictures of a passage
    its sum is least where weights never turn back, its root mean square where they besides take their time.

    Args:
        before: Weights of the blocks in the picture before; zero for one that was not in it.
        after: Weights in this picture.
        pictures: What each block alone shows in this picture.
    """
    return float(np.abs(((after - before)[..., None] * pictures).sum(0)).mean())


def change_of_hands(before: Views, after: Views, rule: Weighting) -> float:
    """How much the second picture differs from what it would be with the first one's weights."""
    first, second = ({part.name: part for part in views[rule].parts} for views in (before, after))
    # A block that this rule has just left is still in the picture by another one; if by none, the whole stands for it.
    known = {part.name: part.image.color for views in after.values() for part in views.parts}
    names, whole = sorted(first.keys() | second.keys()), after[rule].color
    blank = np.zeros(whole.shape[:2], np.float32)
    weights = [
        np.stack([parts[name].weight.numpy() if name in parts else blank for name in names])
        for parts in (first, second)
    ]
    return hand_over_change(*weights, np.stack([known.get(name, whole).numpy() for name in names]))


def _means(values: Sequence[tuple[float | None, float, bool]]) -> dict[str, float | None]:
    shared = [decibels for decibels, _, both in values if both and decibels is not None]
    return {
        "psnr": mean(decibels for decibels, _, _ in values if decibels is not None),
        "ssim": mean(likeness for _, likeness, _ in values),
        "psnr_shared": mean(shared) if shared else None,
    }


def table(runs: Sequence[RunFolder], pictures: int, width: int | None, max_frames: int | None) -> list[dict[str, Any]]:
    """The rows of the result, over all runs."""
    values: dict[str, list[dict[str, float | None]]] = {rule: [] for rule in WEIGHTINGS}
    for run in runs:
        still, film = still_scores(run, max_frames), film_scores(run, pictures, width)
        for rule in WEIGHTINGS:
            values[rule].append({**still[rule], **film[rule]})
            print(f"{run.path.name}, {rule}: {json.dumps(values[rule][-1])}", flush=True)
    return [{"name": rule, **summary(values[rule])} for rule in WEIGHTINGS]


def main() -> None:
    """Print the table and one line of JSON, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--width", type=int)
    parser.add_argument("--max-frames", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "table3.json")
    options = parser.parse_args()
    runs = [RunFolder(path) for path in options.runs]
    rows = table(runs, options.pictures, options.width, options.max_frames)
    records = [read_json(run.train_summary(run.trained_blocks()[0]), "training record") for run in runs]
    publish(
        "table3",
        options.out,
        ("name", "psnr", "psnr_shared", "ssim", "temporal", "peak"),
        rows,
        seeds=[record["config"]["seed"] for record in records],
        settings={
            "steps": records[0]["config"]["steps"],
            "pictures": options.pictures,
            "width": options.width,
            "look": default_preset(runs[0], None),
        },
    )


if __name__ == "__main__":
    main()
