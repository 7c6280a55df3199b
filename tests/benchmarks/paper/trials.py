"""One training of an experiment: a run folder that the train and evaluate jobs process."""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import write_capture
from blocknerf.capture.pose_corrections import apply_corrections, read_corrections
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import write_block_frames
from blocknerf.files import format_json, write_atomic
from blocknerf.json_file import read_json
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import assign_frames
from blocknerf.partitioning.held_out import hold_out
from blocknerf.training import setup
from blocknerf.training.setup import spec_for_block
from pipelines import train as train_job
from pipelines.evaluate import EvalImage, evaluate
from pipelines.evaluation_file import Evaluation
from pipelines.training_log import pose_segments_of_run, training_downscale
from tests.benchmarks.paper.results import commit

HELD_OUT = 8

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Training and evaluation data, blocks and options of one training."""

    capture: Capture
    """Capture for training."""
    evaluation_capture: Capture
    """Capture for evaluation: the same frames with masks."""
    blocks: tuple[Block, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the train job."""
    shape: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of every block's `FieldSpec`."""


def run_trial(folder: Path, trial: Trial) -> Evaluation:
    """Train and evaluate, or resume: completed steps in the folder are skipped."""
    run = RunFolder(folder)
    if not run.city.exists():
        prepare(run, trial)
    with override_spec(trial.shape):
        train_job.train(folder, jobs=1, **trial.options)  # the override exists in this process only
    write_capture(trial.evaluation_capture, run.capture)
    return evaluate(folder, threads=trial.options.get("threads"))


def run_all(
    keys: Sequence[Key], seeds: Sequence[int], run: Callable[[Key, int], dict[str, Any]]
) -> dict[Key, list[dict[str, Any]]]:
    """Run all rows with all seeds, seed by seed, and print each result; return the results per row."""
    values: dict[Key, list[dict[str, Any]]] = {key: [] for key in keys}
    for seed in seeds:
        for key in keys:
            values[key].append(run(key, seed))
            print(f"{key}, seed {seed}: {json.dumps(values[key][-1])}", flush=True)
    return values


def prepare(run: RunFolder, trial: Trial) -> None:
    """Write the files of a run folder that training needs, and the current commit."""
    run.path.mkdir(parents=True, exist_ok=True)
    write_capture(trial.capture, run.capture)
    write_atomic(_origin(run.path), format_json({"commit": commit()}))
    test_frames = hold_out(trial.capture, HELD_OUT).test
    city = City(blocks=trial.blocks, test_every=HELD_OUT, test_frames=test_frames)
    write_block_frames(run, assign_frames(trial.capture, trial.blocks, test_every=HELD_OUT), trial.capture, city)
    write_city(city, run.city)


def commit_of(folder: Path) -> str:
    """Return the commit that a trial was started with."""
    return str(read_json(_origin(folder), "experiment")["commit"])


def work_folder(parent: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """Return the folder for the trials of an experiment, which depends on its settings."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:8]
    return parent / f"{name}-{digest}"


def trained_poses(folder: Path, capture: Capture) -> Capture:
    """Return the capture of a single-block trial with the refined poses."""
    run = RunFolder(folder)
    path = run.pose_corrections(run.trained_blocks()[0])
    return apply_corrections(capture, read_corrections(path)) if path.is_file() else capture


def held_out_images(run: RunFolder, capture: Capture, frames: Sequence[int] | None = None) -> list[EvalImage]:
    """Return the held-out images, all or some, as in evaluation."""
    city, pose_segments = read_city(run.city), pose_segments_of_run(run, capture)
    indices = [i for i in range(len(capture)) if city.is_test_frame(i)] if frames is None else frames
    scale = training_downscale(run)
    return [EvalImage.of(capture, i, scale, None if pose_segments is None else pose_segments[i]) for i in indices]


def scores(evaluation: Evaluation) -> dict[str, float | None]:
    """Return the mean scores for the tables."""
    means = msgspec.structs.asdict(evaluation.mean)
    return {key: means[key] for key in ("psnr", "ssim", "psnr_masked")}


def in_blocks(capture: Capture, blocks: tuple[Block, ...]) -> Capture:
    """Return the frames with cameras in any of the blocks."""
    centers = capture.cameras().centers
    inside = [i for i in range(len(capture)) if any(bool(block.contains(centers[i : i + 1])) for block in blocks)]
    return capture.select(inside)


@contextmanager
def override_spec(shape: Mapping[str, Any]) -> Iterator[None]:
    """Override fields of the `FieldSpec` in the train job: presets do not offer all sizes, or fields without codes."""

    def spec(*args: Any) -> Any:
        return replace(spec_for_block(*args), **shape)

    function: Callable[..., Any] = spec if shape else spec_for_block
    with patch.object(setup, "spec_for_block", function):
        yield


def _origin(folder: Path) -> Path:
    return folder / "experiment.json"
