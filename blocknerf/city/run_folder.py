"""Paths of the files of a run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of the files of a run; every file name is defined only here."""

    path: Path

    @property
    def capture(self) -> Path:
        return self.path / "capture.json"

    @property
    def imported(self) -> Path:
        """Folder of the files that the import made: converted images, masks, point clouds."""
        return self.path / "import"

    @property
    def run_settings(self) -> Path:
        """Options of `blocknerf run`, so that runs with other options are not mixed."""
        return self.path / "run.json"

    @property
    def city(self) -> Path:
        return self.path / "city.json"

    @property
    def map(self) -> Path:
        """Top view of blocks, frames and paths."""
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
        """The frames that train the block, and why."""
        return self.block_folder(name) / "frames.json"

    def block_capture(self, name: str) -> Path:
        """The same frames with all that training needs: cameras, points, facts of the whole capture."""
        return self.block_folder(name) / "frames.table"

    def update_capture(self, name: str, digest: str) -> Path:
        """Capture of the images that train an updated block; its frames.json names this file."""
        return self.block_folder(name) / f"update-{digest}.json"

    def field(self, name: str) -> Path:
        """The trained weights; the block is trained when this file exists."""
        return self.block_folder(name) / "field.safetensors"

    def occupancy(self, name: str) -> Path:
        return self.block_folder(name) / "occupancy.safetensors"

    def checkpoint(self, name: str) -> Path:
        """Folder of the resumable training state; removed when the block is trained."""
        return self.block_folder(name) / "checkpoint"

    def training_lock(self, name: str) -> Path:
        """Lock of the process that trains or updates the block."""
        return self.block_folder(name) / "training.lock"

    def preview(self, name: str) -> Path:
        """Current weights of a block in training, for the viewer; removed with the checkpoint."""
        return self.checkpoint(name) / "preview.safetensors"

    def pose_corrections(self, name: str) -> Path:
        """Pose corrections that the block learned; absent without pose refinement."""
        return self.block_folder(name) / "pose_corrections.json"

    def train_summary(self, name: str) -> Path:
        return self.block_folder(name) / "train.json"

    def log(self, name: str) -> Path:
        return self.block_folder(name) / "log.jsonl"

    @property
    def poses(self) -> Path:
        """The blocks' pose corrections, averaged to one trajectory."""
        return self.path / "poses.json"

    @property
    def appearance_dir(self) -> Path:
        return self.path / "appearance"

    def appearance_preset(self, name: str) -> Path:
        """One appearance code per block."""
        return self.appearance_dir / f"{name}.safetensors"

    def appearance_lock(self, name: str) -> Path:
        """Lock of the process that matches codes for the preset."""
        return self.appearance_dir / f"{name}.lock"

    def update_run(self, name: str) -> "RunFolder":
        """Temporary run in which a block is retrained; removed when it has replaced the old block."""
        return RunFolder(self.path / "updates" / name)

    @property
    def renders(self) -> Path:
        return self.path / "renders"

    def render_folder(self, name: str) -> Path:
        return self.renders / name

    def trajectory(self, name: str) -> Path:
        return self.render_folder(name) / "trajectory.json"

    def frames_dir(self, name: str, layer: str = "frames") -> Path:
        """Folder of a video's frames: `frames`, `depth` or `blocks`."""
        return self.render_folder(name) / layer

    def video(self, name: str, layer: str = "frames") -> Path:
        return self.render_folder(name) / ("video.mp4" if layer == "frames" else f"{layer}.mp4")

    def render_lock(self, name: str) -> Path:
        """Lock of the process that renders the video."""
        return self.render_folder(name) / "render.lock"

    def render_summary(self, name: str) -> Path:
        """Settings and sources of each frame; the video is done when this file exists."""
        return self.render_folder(name) / "render.json"

    def render_log(self, name: str) -> Path:
        """The same for an unfinished video, one line per frame."""
        return self.render_folder(name) / "log.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def evaluation_lock(self) -> Path:
        """Lock of the process that evaluates."""
        return self.path / "evaluation.lock"

    @property
    def evaluation_images(self) -> Path:
        """Folder of a few held-out images next to their renderings."""
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def trained_blocks(self) -> tuple[str, ...]:
        """Names of the trained blocks, sorted."""
        folders = self.blocks.iterdir() if self.blocks.is_dir() else ()
        return tuple(sorted(folder.name for folder in folders if self.field(folder.name).exists()))

    def preset_names(self) -> tuple[str, ...]:
        """Names of the stored appearance presets, sorted."""
        files = self.appearance_dir.glob("*.safetensors") if self.appearance_dir.is_dir() else ()
        return tuple(sorted(file.stem for file in files if not file.name.startswith(".")))
