"""A stretch of the sample town and a run of it, stage by stage: where trials begin, and what they must give."""

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.writes import count_writes

STOPS = 10
TRAIN = ["--steps", "30", "--downscale", "6", "--pose-refinement"]
STAGES: dict[str, list[str]] = {
    "ingest": ["ingest", "town", "run"],
    "partition": ["partition", "run", "--radius", "9"],
    "train": ["train", "run", *TRAIN, "--threads", "1"],
    "reconcile": ["reconcile", "run"],
    "match": ["match", "run", "--threads", "1"],
    "render": ["render", "run", "--frames", "6", "--width", "24", "--threads", "1"],
    "evaluate": ["evaluate", "run", "--max-frames", "2", "--threads", "1"],
    "export": ["export", "run", "--poses", "town/refined.json"],
    "report": ["report", "run"],
}
WHOLE = ["run", "town", "--out", "run", "--radius", "9", "--jobs", "1", *TRAIN]
VOLATILE = {"train.json", "log.jsonl", "render.json", "report.html"}
"""Files that hold times, and so are other ones each time."""


@dataclass(slots=True, kw_only=True)
class Town:
    """Folders with a capture in `town` and a run in `run`, as they are before and after each stage."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    """That each stage takes."""
    writes: dict[str, int] = field(default_factory=dict)
    """How often each stage may be stopped inside a write."""

    @classmethod
    def made(cls, folder: Path) -> "Town":
        """Make the capture, and run every stage once."""
        town = cls(folder=folder)
        here = town.before("ingest")
        _write_capture(here / "town")
        town._warm_up()
        for stage in STAGES:
            after = town.after(stage)
            shutil.copytree(here, after)
            town._measure(stage, STAGES[stage], after)
            here = after
        shutil.copytree(town.before("ingest"), town.after("run"))
        town._measure("run", WHOLE, town.after("run"))
        return town

    def before(self, stage: str) -> Path:
        """The folder from which a stage sets out."""
        names = list(STAGES)
        first = stage in ("run", names[0])
        return self.folder / "begun" if first else self.after(names[names.index(stage) - 1])

    def after(self, stage: str) -> Path:
        """The folder that a stage leaves behind, undisturbed."""
        return self.folder / f"after-{stage}"

    def command(self, stage: str, folder: Path, *more: str) -> list[str]:
        """The command of a stage, for a folder."""
        words = WHOLE if stage == "run" else STAGES[stage]
        return [str(folder / word) if word.partition("/")[0] in ("town", "run") and i else word
                for i, word in enumerate([*words, *more])]  # fmt: skip

    def difference(self, stage: str, folder: Path) -> str | None:
        """The first file that is not as the undisturbed stage leaves it; None where all are."""
        return difference(self.after(stage), folder)

    def _warm_up(self) -> None:
        """Run every stage in this process, so that forked ones find kernels loaded."""
        scratch = self.folder / "warm"
        shutil.copytree(self.before("ingest"), scratch)
        with (self.folder / "told.txt").open("w") as told, redirect_stdout(told):
            for stage in STAGES:
                if commands.main(self.command(stage, scratch)):
                    raise RuntimeError(f"{stage} failed")
        shutil.rmtree(scratch)

    def _measure(self, stage: str, words: list[str], folder: Path) -> None:
        counter = self.folder / "writes.txt"
        outcome = commands.run(self.command(stage, folder), self.folder, count_writes(counter))
        if outcome.code != 0:
            raise RuntimeError(f"{stage}: {outcome.errors}")
        self.seconds[stage], self.writes[stage] = outcome.seconds, int(counter.read_text())


def difference(expected: Path, found: Path) -> str | None:
    """The first file that is not the same below two folders; None where all are."""
    for path in sorted(files(expected) | files(found)):
        if path not in files(found):
            return f"{path} is missing"
        if path not in files(expected) and path.name not in VOLATILE:
            return f"{path} was left behind"
        if path.name not in VOLATILE and (expected / path).read_bytes() != (found / path).read_bytes():
            return f"{path} differs"
    return None


def files(folder: Path) -> set[Path]:
    """Files below a folder, relative to it."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if path.parts[0] in ("town", "run")}


def _write_capture(folder: Path) -> None:
    """One camera on the first stops of one drive."""
    source = commands.REPOSITORY / "data_samples" / "mini_city"
    document = json.loads((source / "transforms.json").read_text())
    first = document["frames"][0]["sequence_id"], "forward"
    taken = [frame for frame in document["frames"] if (frame["sequence_id"], frame["camera_id"]) == first][:STOPS]
    document["frames"] = taken
    paths = {frame[key] for frame in taken for key in ("file_path", "mask_path", "sky_mask_path") if key in frame}
    for path in (*paths, document["ply_file_path"], *([document["lidar_ply"]] if "lidar_ply" in document else [])):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, folder / path)
    (folder / "transforms.json").write_text(json.dumps(document))
