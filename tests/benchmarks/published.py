"""Scenes with published scores: ours next to those of others, on whole test images with the mean appearance code.

    python -m tests.benchmarks.published [--scenes llff_fern] [--steps N] [--preset draft] [--seeds 0 1 2] [--out FILE]

Each scene is imported, partitioned, trained and evaluated by the jobs of the command line, at its full size, with the
test images of its `transforms.json`. Captures are read from `../shared/data`, or from the folder of `--data`. `lego400`
is half the size of the published one, on white like it (images with an alpha channel are composited on white).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

from blocknerf.city.extras import read_training_record  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.errors import BlockNerfError  # noqa: E402
from blocknerf.files import format_json, write_atomic  # noqa: E402
from blocknerf.options import Preset  # noqa: E402
from pipelines.evaluate import evaluate  # noqa: E402
from pipelines.ingest import ingest  # noqa: E402
from pipelines.partition import partition  # noqa: E402
from pipelines.train import train  # noqa: E402
from tests.benchmarks.paper.results import REPOSITORY, commit, print_rows, summary  # noqa: E402

COLUMNS = ("scene", "by", "psnr", "ssim", "lpips", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Published mean PSNR of a scene's test images."""

    by: str
    psnr: float


ARCNERF = "docs/benchmark.md of ArcNerf"
SCENES = {
    "llff_fern": (
        Published(by="NeRF (Mildenhall et al. 2020)", psnr=26.17),
        Published(by="nerf-pytorch", psnr=26.29),
        Published(by=f"mip-NeRF, 200,000 steps without NDC ({ARCNERF})", psnr=25.41),
    ),
    "llff_flower": (
        Published(by="NeRF (Mildenhall et al. 2020)", psnr=27.19),
        Published(by=f"mip-NeRF, 200,000 steps without NDC ({ARCNERF})", psnr=27.41),
    ),
    "lego400": (
        Published(by="NeRF (Mildenhall et al. 2020), 800x800", psnr=32.54),
        Published(by="instant-ngp, 800x800", psnr=36.39),
        Published(by="TensoRF, 800x800", psnr=36.46),
        Published(by="Zip-NeRF, 800x800", psnr=34.84),
        Published(by=f"instant-ngp, 500 steps, 800x800 ({ARCNERF})", psnr=29.3),
        Published(by=f"instant-ngp, 2,000 steps, 800x800 ({ARCNERF})", psnr=33.1),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Options of the train job that every scene shares."""

    preset: Preset = "draft"
    steps: int | None = None
    threads: int | None = None


def run_scene(capture: Path, run: Path, training: Training, seed: int) -> dict[str, float | None]:
    """Return the mean scores of a scene's test images, and the seconds of its training."""
    ingest(capture, run)
    partition(run, preset=training.preset)
    # One process, since the threads are those of this benchmark.
    train(run, downscale=1, steps=training.steps, seed=seed, threads=training.threads, jobs=1)
    scores = evaluate(run, threads=training.threads).mean
    folder = RunFolder(run)
    seconds = sum(read_training_record(folder.train_summary(name)).seconds for name in folder.trained_blocks())
    return {"psnr": scores.whole_psnr, "ssim": scores.whole_ssim, "lpips": scores.whole_lpips, "seconds": seconds}


def run_seeds(capture: Path, training: Training, seeds: Sequence[int]) -> list[dict[str, float | None]]:
    """Return the scores of each seed, each trained in a temporary run folder."""
    if not capture.is_dir():
        raise BlockNerfError(f"{capture}: no such capture; give the folder of the scenes with --data")
    values = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            values.append(run_scene(capture, Path(folder) / "run", training, seed))
        print(f"{capture.name}, seed {seed}: {json.dumps(values[-1])}", flush=True)
    return values


def rows_of(scene: str, values: Sequence[Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """Return the row of a scene, with the scores of each seed, and the rows of its published scores."""
    published = [{"scene": scene, "by": row.by, "psnr": row.psnr} for row in SCENES[scene]]
    return [{"scene": scene, "by": "blocknerf", **summary(values)}, *published]


def main() -> int:
    """Print the table and one line of JSON, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--preset", choices=("draft", "standard", "fine"), default="draft")
    parser.add_argument("--steps", type=int, help="training steps; by default from the preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, help="CPU threads; by default all cores")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    training = Training(preset=options.preset, steps=options.steps, threads=options.threads)
    try:
        rows = [
            row
            for scene in options.scenes
            for row in rows_of(scene, run_seeds(options.data / scene, training, options.seeds))
        ]
    except BlockNerfError as error:
        print(f"published: error: {error}", file=sys.stderr)
        return 2
    settings = {key: getattr(options, key) for key in ("preset", "steps", "threads")}
    if options.out is not None:
        document = {"commit": commit(), "seeds": options.seeds, "settings": settings, "rows": rows}
        write_atomic(options.out, format_json(document))
    print_rows(rows, COLUMNS)
    print(json.dumps({"benchmark": "published", "settings": settings, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
