"""One training of an experiment: a run folder that the product's own jobs train and judge."""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from blocknerf.capture.capture import Capture, write_capture
from blocknerf.capture.pose_corrections import apply_corrections, read_corrections
from blocknerf.city.manifest import City, read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.files import format_json, read_json, write_atomic
from blocknerf.partition.block import Block
from blocknerf.partition.frame_assignment import assign_frames, write_assignment
from blocknerf.training.block_spec import spec_for_block
from pipelines import block_training
from pipelines import train as train_job
from pipelines.evaluate import EvalImage, evaluate
from pipelines.evaluation_file import Evaluation
from pipelines.training_log import pose_segments_of_run, training_downscale
from tests.benchmarks.paper.results import commit

HELD_OUT = 8

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is trained, and on what."""

    capture: Capture
    """As training sees it."""
    judged: Capture
    """As evaluation sees it: the same frames, masks included."""
    blocks: tuple[Block, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the train job."""
    shape: Mapping[str, Any] = field(default_factory=dict)
    """Replaces fields of every block's `FieldSpec`."""


def run_trial(folder: Path, trial: Trial) -> Evaluation:
    """Train and judge, or go on with it: what is done already in the folder is skipped."""
    run = RunFolder(folder)
    if not run.city.exists():
        prepare(run, trial)
    with shaped(trial.shape):
        train_job.train(folder, jobs=1, **trial.options)  # the shape is known to this process alone
    write_capture(trial.judged, run.capture)
    return evaluate(folder, threads=trial.options.get("threads"))


def every(
    keys: Sequence[Key], seeds: Sequence[int], run: Callable[[Key, int], dict[str, Any]]
) -> dict[Key, list[dict[str, Any]]]:
    """What each row came to with each seed, told as it comes; all rows with the first seed first."""
    values: dict[Key, list[dict[str, Any]]] = {key: [] for key in keys}
    for seed in seeds:
        for key in keys:
            values[key].append(run(key, seed))
            print(f"{key}, seed {seed}: {json.dumps(values[key][-1])}", flush=True)
    return values


def prepare(run: RunFolder, trial: Trial) -> None:
    """Write a run folder up to what training needs, and which commit it is the work of."""
    run.path.mkdir(parents=True, exist_ok=True)
    write_capture(trial.capture, run.capture)
    for member in assign_frames(trial.capture, trial.blocks, test_every=HELD_OUT):
        write_assignment(member, trial.capture, run.frames(member.block))
    write_atomic(_origin(run.path), format_json({"commit": commit()}))
    write_city(City(blocks=trial.blocks, test_every=HELD_OUT), run.city)


def commit_of(folder: Path) -> str:
    """The commit that a trial was begun with."""
    return str(read_json(_origin(folder), "experiment")["commit"])


def work_folder(parent: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """Where the trials of an experiment lie: other settings, another folder."""
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:8]
    return parent / f"{name}-{digest}"


def trained_poses(folder: Path, capture: Capture) -> Capture:
    """The photographs of a trial of one block from where training came to think that they were taken."""
    run = RunFolder(folder)
    path = run.pose_corrections(run.trained_blocks()[0])
    return apply_corrections(capture, read_corrections(path)) if path.is_file() else capture


def held_out_exams(run: RunFolder, capture: Capture, frames: Sequence[int] | None = None) -> list[EvalImage]:
    """Photographs that were kept back, all or some, as evaluation asks for them."""
    city, own = read_city(run.city), pose_segments_of_run(run, capture)
    chosen = [i for i in range(len(capture)) if city.is_test_frame(i)] if frames is None else frames
    scale = training_downscale(run)
    return [EvalImage.of(capture, i, scale, None if own is None else own[i]) for i in chosen]


def scores(found: Evaluation) -> dict[str, float | None]:
    """The means that tables show."""
    means = asdict(found.mean)
    return {key: means[key] for key in ("psnr", "ssim", "psnr_masked")}


def in_blocks(capture: Capture, blocks: tuple[Block, ...]) -> Capture:
    """The frames that stand in any of the blocks."""
    centers = capture.cameras().centers
    inside = [i for i in range(len(capture)) if any(bool(block.contains(centers[i : i + 1])) for block in blocks)]
    return capture.select(inside)


@contextmanager
def shaped(shape: Mapping[str, Any]) -> Iterator[None]:
    """Within it, the train job makes fields of another shape: presets offer none without codes, or of every size."""

    def spec(*facts: Any) -> Any:
        return replace(spec_for_block(*facts), **shape)

    given: Callable[..., Any] = spec if shape else spec_for_block
    with patch.object(block_training, "spec_for_block", given):
        yield


def _origin(folder: Path) -> Path:
    return folder / "experiment.json"
