"""A part of the sample town and a run of it, stage by stage: inputs and expected outputs of trials."""

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.writes import count_writes

POSITIONS = 10
TRAIN = ["--steps", "30", "--downscale", "6", "--pose-refinement"]
STAGES: dict[str, list[str]] = {
    "ingest": ["ingest", "town", "run"],
    "partition": ["partition", "run", "--radius", "9"],
    "train": ["train", "run", *TRAIN, "--threads", "1"],
    "align": ["align", "run"],
    "match": ["match", "run", "--threads", "1"],
    "render": ["render", "run", "--frames", "6", "--width", "24", "--threads", "1"],
    "evaluate": ["evaluate", "run", "--max-frames", "2", "--threads", "1"],
    "export": ["export", "run", "--poses", "town/refined.json"],
    "report": ["report", "run"],
}
WHOLE = ["run", "town", "--out", "run", "--radius", "9", "--jobs", "1", *TRAIN]
VOLATILE = {"train.json", "log.jsonl", "render.json", "report.html"}
"""Files that contain times and therefore differ between runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """An undisturbed stage."""

    seconds: float
    writes: int
    """Number of points where a write can be interrupted."""


@dataclass(slots=True, kw_only=True)
class SmallTown:
    """Folders with a capture in `town` and a run in `run`, before and after each stage."""

    folder: Path
    _measurements: dict[str, Measurement] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path) -> "SmallTown":
        """Write the capture, and load the kernels."""
        town = cls(folder=folder)
        _write_capture(town.before("ingest") / "town")
        town._warm_up()
        return town

    def before(self, stage: str) -> Path:
        """Return the folder before a stage."""
        names = list(STAGES)
        first = stage in ("run", names[0])
        return self.folder / "start" if first else self.after(names[names.index(stage) - 1])

    def after(self, stage: str) -> Path:
        """Return the folder after an undisturbed stage, which runs on first use."""
        folder = self.folder / f"after-{stage}"
        if not folder.exists():
            shutil.copytree(self.before(stage), folder)
            self._measurements[stage] = self._measure(stage, folder)
        return folder

    def measured(self, stage: str) -> Measurement:
        """Return the duration and the writes of a stage."""
        self.after(stage)
        return self._measurements[stage]

    def command(self, stage: str, folder: Path, *options: str) -> list[str]:
        """Return the command of a stage for a folder."""
        words = WHOLE if stage == "run" else STAGES[stage]
        return [str(folder / word) if word.partition("/")[0] in ("town", "run") and i else word
                for i, word in enumerate([*words, *options])]  # fmt: skip

    def difference(self, stage: str, folder: Path) -> str | None:
        """Return the first file that differs from the undisturbed stage, or None."""
        return difference(self.after(stage), folder)

    def _warm_up(self) -> None:
        """Run every stage in this process, so that kernels are loaded before forks."""
        scratch = self.folder / "warm"
        shutil.copytree(self.before("ingest"), scratch)
        with (self.folder / "output.txt").open("w") as output, redirect_stdout(output):
            for stage in STAGES:
                if commands.main(self.command(stage, scratch)):
                    raise RuntimeError(f"{stage} failed")
        shutil.rmtree(scratch)

    def _measure(self, stage: str, folder: Path) -> Measurement:
        counter = self.folder / "writes.txt"
        outcome = commands.run(self.command(stage, folder), self.folder, count_writes(counter))
        if outcome.code != 0:
            raise RuntimeError(f"{stage}: {outcome.errors}")
        return Measurement(seconds=outcome.seconds, writes=int(counter.read_text()))


def difference(expected: Path, actual: Path) -> str | None:
    """Return the first file that differs between two folders, or None."""
    for path in sorted(files(expected) | files(actual)):
        if path not in files(actual):
            return f"{path} is missing"
        if path not in files(expected) and path.name not in VOLATILE:
            return f"{path} is left over"
        if path.name not in VOLATILE and (expected / path).read_bytes() != (actual / path).read_bytes():
            return f"{path} differs"
    return None


def files(folder: Path) -> set[Path]:
    """Return the files below a folder, relative to it."""
    paths = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in paths if path.parts[0] in ("town", "run")}


def _write_capture(folder: Path) -> None:
    """Write a capture of one camera at the first positions of one segment."""
    source = commands.REPOSITORY / "data_samples" / "mini_city"
    document = json.loads((source / "transforms.json").read_text())
    first = document["frames"][0]["sequence_id"], "forward"
    frames = [frame for frame in document["frames"] if (frame["sequence_id"], frame["camera_id"]) == first][:POSITIONS]
    document["frames"] = frames
    paths = {frame[key] for frame in frames for key in ("file_path", "mask_path", "sky_mask_path") if key in frame}
    for path in (*paths, document["ply_file_path"], *([document["lidar_ply"]] if "lidar_ply" in document else [])):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, folder / path)
    (folder / "transforms.json").write_text(json.dumps(document))
