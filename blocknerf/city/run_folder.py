"""Where each file of a run lies."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where each file of a run lies; every name is spelled here and nowhere else."""

    path: Path

    @property
    def capture(self) -> Path:
        return self.path / "capture.json"

    @property
    def run_settings(self) -> Path:
        """With what `blocknerf run` was asked for, so that another run is not mixed in."""
        return self.path / "run.json"

    @property
    def city(self) -> Path:
        return self.path / "city.json"

    @property
    def map(self) -> Path:
        """The picture of blocks, frames and path."""
        return self.path / "map.png"

    @property
    def coverage(self) -> Path:
        return self.path / "coverage.json"

    @property
    def blocks(self) -> Path:
        return self.path / "blocks"

    def block_folder(self, name: str) -> Path:
        return self.blocks / name

    def frames(self, name: str) -> Path:
        """Which frames train the block, and why."""
        return self.block_folder(name) / "frames.json"

    def update_capture(self, name: str, digest: str) -> Path:
        """The photographs that train a block which was updated; its frames.json says so."""
        return self.block_folder(name) / f"update-{digest}.json"

    def field(self, name: str) -> Path:
        """The trained weights; a block is done when this file is there."""
        return self.block_folder(name) / "field.safetensors"

    def occupancy(self, name: str) -> Path:
        return self.block_folder(name) / "occupancy.safetensors"

    def checkpoint(self, name: str) -> Path:
        """The folder of resumable training state, removed when the block is done."""
        return self.block_folder(name) / "checkpoint"

    def training_lock(self, name: str) -> Path:
        """Held by the process that trains or updates the block."""
        return self.block_folder(name) / "training.lock"

    def preview(self, name: str) -> Path:
        """The field as far as it is trained, for looking at; gone with the checkpoint."""
        return self.checkpoint(name) / "preview.safetensors"

    def pose_corrections(self, name: str) -> Path:
        """By how much the block moved the poses it was given; absent where it kept them."""
        return self.block_folder(name) / "pose_corrections.json"

    def train_summary(self, name: str) -> Path:
        return self.block_folder(name) / "train.json"

    def log(self, name: str) -> Path:
        return self.block_folder(name) / "log.jsonl"

    @property
    def poses(self) -> Path:
        """The blocks' offsets brought into one trajectory."""
        return self.path / "poses.json"

    @property
    def appearance_dir(self) -> Path:
        return self.path / "appearance"

    def appearance_preset(self, name: str) -> Path:
        """One appearance code a block."""
        return self.appearance_dir / f"{name}.safetensors"

    def appearance_lock(self, name: str) -> Path:
        """Held by the process that matches codes for it."""
        return self.appearance_dir / f"{name}.lock"

    def update_run(self, name: str) -> "RunFolder":
        """A small run in which a block is trained anew; it is gone when that has taken the old one's place."""
        return RunFolder(self.path / "updates" / name)

    @property
    def renders(self) -> Path:
        return self.path / "renders"

    def render_folder(self, name: str) -> Path:
        return self.renders / name

    def trajectory(self, name: str) -> Path:
        return self.render_folder(name) / "trajectory.json"

    def frames_dir(self, name: str, layer: str = "frames") -> Path:
        """The folder of a film's single pictures: `frames`, `depth` or `blocks`."""
        return self.render_folder(name) / layer

    def video(self, name: str, layer: str = "frames") -> Path:
        return self.render_folder(name) / ("video.mp4" if layer == "frames" else f"{layer}.mp4")

    def render_lock(self, name: str) -> Path:
        """Held by the process that renders the video."""
        return self.render_folder(name) / "render.lock"

    def render_summary(self, name: str) -> Path:
        """What each picture of a film was made from; a film is done when this file is there."""
        return self.render_folder(name) / "render.json"

    def render_log(self, name: str) -> Path:
        """The same of an unfinished film, a line a picture."""
        return self.render_folder(name) / "log.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def evaluation_lock(self) -> Path:
        """Held by the process that scores."""
        return self.path / "evaluation.lock"

    @property
    def evaluation_images(self) -> Path:
        """The folder of a few held-out photographs beside their renderings."""
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def trained_blocks(self) -> tuple[str, ...]:
        """Names of the trained blocks, sorted."""
        folders = self.blocks.iterdir() if self.blocks.is_dir() else ()
        return tuple(sorted(folder.name for folder in folders if self.field(folder.name).exists()))

    def preset_names(self) -> tuple[str, ...]:
        """Names of the stored looks, sorted."""
        files = self.appearance_dir.glob("*.safetensors") if self.appearance_dir.is_dir() else ()
        return tuple(sorted(file.stem for file in files if not file.name.startswith(".")))
