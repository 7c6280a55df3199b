"""One video in the making: its frames, then its videos, then its record; what is there and still true is kept."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from jaxtyping import UInt8

from blocknerf.cameras import Cameras
from blocknerf.city.appearance_track import AppearanceTrack
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City
from blocknerf.city.renderer import CityRenderer, CityRendering
from blocknerf.city.run_folder import RunFolder
from blocknerf.colormaps import colorize_blocks, depth_colors
from blocknerf.errors import RunError
from blocknerf.images import read_image, to_uint8, write_image
from blocknerf.locks import clear_abandoned, exclusive
from blocknerf.metrics.temporal import frame_difference, max_temporal_jump
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.video import write_video
from pipelines.console import format_duration, log, progress, skip_if_exists
from pipelines.render_record import (
    DepthRange,
    FileMark,
    FrameRecord,
    RenderRecord,
    Statistics,
    add_to_log,
    write_record,
)
from pipelines.staleness import CurrentInputs, changes


class VideoJob:
    """Makes one video of a run, or renders again what of it is out of date or damaged."""

    def __init__(
        self,
        folder: RunFolder,
        name: str,
        trajectory: Trajectory,
        known: RenderRecord,
        layers: Sequence[str],
        city: City,
        light: AppearanceTrack,
        device: torch.device,
    ) -> None:
        """Open the run.

        Args:
            folder: The run.
            name: Of the video.
            trajectory: Where its camera goes.
            known: Its settings, and what is there of it.
            layers: What to make videos of: frames, depth, blocks.
            city: The run's.
            light: The appearance that the settings name.
            device: Where to render.
        """
        self.folder, self.name, self.trajectory, self.known, self.appearance = folder, name, trajectory, known, light
        # With those that are there: frames that are rendered again must not leave an older depth video beside them.
        self.outputs = tuple(dict.fromkeys([*layers, *known.videos]))
        self.positions = {block.name: i for i, block in enumerate(city.blocks)}
        self.now = CurrentInputs(folder, known.settings.presets(light.presets))
        load = self.now.noted(block_loader(folder, city, device))
        self.renderer = CityRenderer(folder, city=known.settings.describe(city), load=load, device=device)
        self.stale = [row for row in known.frames.values() if row.inputs != self.now.of(row.inputs.blocks)]
        kept = known.frames.keys() - {row.frame for row in self.stale}
        self.rows = {i: known.frames[i] for i in kept if i < len(trajectory)}

    def make(self) -> None:
        """Render what is missing, out of date or damaged, then write videos and record; nothing where all is well."""
        complaints = [*self._drop_damaged_frames(), *self._video_complaints()]
        if not complaints and self._is_complete():
            skip_if_exists(self.folder.render_summary(self.name))
            clear_abandoned(self.folder.render_lock(self.name))
            return
        with exclusive(self.folder.render_lock(self.name), f"video {self.name}: rendering"):
            self._make(complaints)

    def _make(self, complaints: list[str]) -> None:
        missing = [i for i in range(len(self.trajectory)) if not self._is_made(i)]
        for complaint in complaints:
            log(complaint)
        self._print_summary(missing)
        depth_range = self._depth_range(missing)
        if missing:
            self._render_frames(missing, depth_range or (1.0, 2.0))
        self._refuse_changes()
        differences = self._write_videos()
        self._write_record(differences, depth_range)

    def _is_complete(self) -> bool:
        """Whether the videos are of the run as it is; single frames may have been removed to save space."""
        return len(self.rows) == len(self.trajectory) and set(self.outputs) <= self.known.videos.keys()

    def _drop_damaged_frames(self) -> list[str]:
        """Forget frames whose images are not what was written, so that they are rendered again; says which."""
        complaints = []
        for i, row in list(self.rows.items()):
            for layer, mark in row.files.items():
                path = self._image(i, layer)
                if path.exists() and (damage := mark.damage(path)):
                    complaints.append(f"{path}: {damage}; rendering it again")
                    self.rows.pop(i, None)
        return complaints

    def _video_complaints(self) -> list[str]:
        found = [(self.folder.video(self.name, layer), mark) for layer, mark in self.known.videos.items()]
        damages = [(path, mark.damage(path)) for path, mark in found]
        return [f"{path}: {damage}; writing it again from its frames" for path, damage in damages if damage]

    def _print_summary(self, missing: Sequence[int]) -> None:
        count = len(self.trajectory)
        if why := changes(self.folder, *(row.inputs for row in self.stale)):
            log(f"{self.name}: stale: {'; '.join(why)}: rendering {len(missing)} of {count} frames again")
        kept = f", {count - len(missing)} are there already" if len(missing) < count else ""
        size = f"{self.trajectory.width}x{self.trajectory.height}"
        log(f"{self.name}: {count} frames of {size}, {self.trajectory.seconds:.1f} s{kept}")

    def _render_frames(self, missing: Sequence[int], depth_range: DepthRange) -> None:
        cameras = self.trajectory.cameras
        for done, i in enumerate(progress(missing, self.name, len(missing))):
            start = time.monotonic()
            seen = self._render(cameras, i)
            inputs = self.now.of(seen.considered)
            weights = {use.name: round(use.weight, 6) for use in seen.rendered}
            files = {layer: self._write_image(i, layer, seen, weights, depth_range) for layer in self.outputs}
            taken = round(time.monotonic() - start, 4)
            self.rows[i] = FrameRecord(frame=i, seconds=taken, blocks=weights, inputs=inputs, files=files)
            add_to_log(self.folder, self.name, self.rows[i].to_json())
            if done == 1:  # The first frame also loads blocks and compiles kernels.
                log(f"   about {format_duration(taken * len(missing))}")

    def _render(self, cameras: Cameras, frame: int) -> CityRendering:
        options = self.appearance.render_options_at(
            frame / max(1, len(self.trajectory) - 1), self.renderer, cameras[frame]
        )
        return self.renderer.render(cameras, frame, max_blocks=self.known.settings.max_blocks, **options)

    def _write_image(
        self, frame: int, layer: str, seen: CityRendering, weights: Mapping[str, float], depth_range: DepthRange
    ) -> FileMark:
        path = self._image(frame, layer)
        write_image(path, self._colors(seen, layer, weights, depth_range))
        return FileMark.of(path)

    def _colors(
        self, seen: CityRendering, layer: str, weights: Mapping[str, float], depth_range: DepthRange
    ) -> UInt8[np.ndarray, "height width 3"]:
        if layer == "depth":
            return depth_colors(seen.depth.cpu().numpy(), *depth_range)
        color = to_uint8(seen.color)
        if layer == "blocks":
            return colorize_blocks(color, [(self.positions[name], weight) for name, weight in weights.items()])
        return color

    def _depth_range(self, missing: Sequence[int]) -> DepthRange | None:
        """Distances that depth colors span, the same for the whole video: those of a few small frames, widened."""
        if "depth" not in self.outputs:
            return None
        if self.known.depth_range is not None and len(missing) < len(self.trajectory):
            return self.known.depth_range
        side = max(self.trajectory.width, self.trajectory.height)
        cameras = self.trajectory.cameras.scaled(min(1.0, 48 / side))
        found = []
        for i in sorted({0, len(self.trajectory) // 2, len(self.trajectory) - 1}):
            seen = self._render(cameras, i)
            found.append(seen.depth[seen.opacity > 0.5].cpu())
        depths = torch.cat(found)
        near, far = 1.0, 100.0
        if len(depths):
            near, far = 0.8 * float(depths.quantile(0.02)), 1.5 * float(depths.quantile(0.98))
        add_to_log(self.folder, self.name, {"depth_range": [near, far]})
        return near, far

    def _image(self, frame: int, layer: str) -> Path:
        return self.folder.frames_dir(self.name, layer) / f"{frame:05d}.png"

    def _is_made(self, frame: int) -> bool:
        if frame not in self.rows:
            return False
        return all(layer in self.rows[frame].files and self._image(frame, layer).exists() for layer in self.outputs)

    def _refuse_changes(self) -> None:
        """Refuse to call frames finished whose blocks, preset or poses were replaced while they were rendered."""
        if why := changes(self.folder, *(row.inputs for row in self.rows.values())):
            clauses = "; ".join(why)
            raise RunError(f"{self.name}: {clauses}, while it was rendered; run the same command again to catch up")

    def _write_videos(self) -> list[float]:
        """Videos of all layers; gives the change between each frame and the one before."""
        changed: list[float] = []
        for layer in self.outputs:
            self._remove_frames_beyond(layer)
            images = self._measured(changed) if layer == "frames" else self._read(layer)
            write_video(self.folder.video(self.name, layer), images, fps=self.trajectory.fps)
        return changed

    def _remove_frames_beyond(self, layer: str) -> None:
        """Remove what an older, longer camera path left."""
        for path in self.folder.frames_dir(self.name, layer).glob("*.png"):
            if path.stem.isdecimal() and int(path.stem) >= len(self.trajectory):
                path.unlink()

    def _read(self, layer: str) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        return (read_image(self._image(i, layer)) for i in range(len(self.trajectory)))

    def _measured(self, changed: list[float]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        before = None
        for image in self._read("frames"):
            if before is not None:
                changed.append(round(frame_difference(before, image), 6))
            before = image
            yield image

    def _write_record(self, changed: Sequence[float], depth_range: DepthRange | None) -> None:
        frames = {i: row.only(self.outputs) for i, row in self.rows.items()}
        spent = sum(row.seconds for row in frames.values())
        pixels = len(frames) * self.trajectory.width * self.trajectory.height
        figures = Statistics(
            width=self.trajectory.width,
            height=self.trajectory.height,
            fps=self.trajectory.fps,
            seconds=round(spent, 3),
            pixels_per_second=round(pixels / max(spent, 1e-9)),
            mean_frame_difference=round(mean(changed), 6) if changed else 0.0,
            max_temporal_jump=round(max_temporal_jump(list(changed)), 4),
            frame_differences=tuple(changed),
        )
        videos = {layer: FileMark.of(self.folder.video(self.name, layer)) for layer in self.outputs}
        finished = replace(self.known, frames=frames, depth_range=depth_range, videos=videos, statistics=figures)
        write_record(finished, self.folder.render_summary(self.name))
        self.folder.render_log(self.name).unlink(missing_ok=True)
        rate = (
            f"{figures.pixels_per_second:,} pixels/s, largest jump {figures.max_temporal_jump:.2f} x the usual change"
        )
        log(f"{self.folder.video(self.name)}: {rate}")
