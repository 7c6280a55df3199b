"""Rendering of one video: frames, then video files, then the record. Frames that are up to date are kept."""

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
from blocknerf.metrics import frame_difference, max_temporal_jump
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
    """Renders one video of a run, or the parts of it that are missing, out of date or damaged."""

    def __init__(
        self,
        folder: RunFolder,
        name: str,
        trajectory: Trajectory,
        known: RenderRecord,
        layers: Sequence[str],
        city: City,
        track: AppearanceTrack,
        device: torch.device,
    ) -> None:
        """Open the run.

        Args:
            folder: The run.
            name: Name of the video.
            trajectory: Camera path of the video.
            known: Settings of the video, and what is already rendered.
            layers: Layers to write videos of: frames, depth, blocks.
            city: The city of the run.
            track: The appearance over the video.
            device: Device for rendering.
        """
        self.folder, self.name, self.trajectory, self.known, self.appearance = folder, name, trajectory, known, track
        # Including existing layers: an old depth video must not remain next to frames that are rendered again.
        self.outputs = tuple(dict.fromkeys([*layers, *known.videos]))
        self.positions = {block.name: i for i, block in enumerate(city.blocks)}
        self.current = CurrentInputs(folder, known.settings.presets(track.presets))
        load = self.current.noted(block_loader(folder, city, device, sharp=known.settings.sharp))
        self.renderer = CityRenderer(folder, city=known.settings.describe(city), load=load, device=device)
        self.stale = [row for row in known.frames.values() if row.inputs != self.current.of(row.inputs.blocks)]
        kept = known.frames.keys() - {row.frame for row in self.stale}
        self.rows = {i: known.frames[i] for i in kept if i < len(trajectory)}

    def make(self) -> None:
        """Render what is missing, out of date or damaged, then write the videos and the record."""
        messages = [*self._drop_damaged_frames(), *self._damaged_videos()]
        if not messages and self._is_complete():
            skip_if_exists(self.folder.render_summary(self.name))
            clear_abandoned(self.folder.render_lock(self.name))
            return
        with exclusive(self.folder.render_lock(self.name), f"video {self.name}: rendering"):
            self._make(messages)

    def _make(self, messages: list[str]) -> None:
        missing = [i for i in range(len(self.trajectory)) if not self._is_rendered(i)]
        for message in messages:
            log(message)
        self._print_summary(missing)
        depth_range = self._depth_range(missing)
        if missing:
            self._render_frames(missing, depth_range or (1.0, 2.0))
        self._check_unchanged()
        differences = self._write_videos()
        self._write_record(differences, depth_range)

    def _is_complete(self) -> bool:
        """Return whether the videos are up to date. Frame files may have been removed to save space."""
        return len(self.rows) == len(self.trajectory) and set(self.outputs) <= self.known.videos.keys()

    def _drop_damaged_frames(self) -> list[str]:
        """Drop damaged frames from the record, so that they are rendered again; return a message for each."""
        messages = []
        for i, row in list(self.rows.items()):
            for layer, mark in row.files.items():
                path = self._image(i, layer)
                if path.exists() and (damage := mark.damage(path)):
                    messages.append(f"{path}: {damage}; rendering it again")
                    self.rows.pop(i, None)
        return messages

    def _damaged_videos(self) -> list[str]:
        """Return a message for each damaged video file."""
        videos = [(self.folder.video(self.name, layer), mark) for layer, mark in self.known.videos.items()]
        damages = [(path, mark.damage(path)) for path, mark in videos]
        return [f"{path}: {damage}; writing it again from its frames" for path, damage in damages if damage]

    def _print_summary(self, missing: Sequence[int]) -> None:
        count = len(self.trajectory)
        if reasons := changes(self.folder, *(row.inputs for row in self.stale)):
            log(f"{self.name}: stale: {'; '.join(reasons)}: rendering {len(missing)} of {count} frames again")
        kept = f", {count - len(missing)} already rendered" if len(missing) < count else ""
        size = f"{self.trajectory.width}x{self.trajectory.height}"
        log(f"{self.name}: {count} frames of {size}, {self.trajectory.seconds:.1f} s{kept}")

    def _render_frames(self, missing: Sequence[int], depth_range: DepthRange) -> None:
        cameras = self.trajectory.cameras
        for done, i in enumerate(progress(missing, self.name, len(missing))):
            start = time.monotonic()
            rendering = self._render(cameras, i)
            inputs = self.current.of(rendering.considered)
            weights = {block.name: round(block.weight, 6) for block in rendering.rendered}
            files = {layer: self._write_image(i, layer, rendering, weights, depth_range) for layer in self.outputs}
            seconds = round(time.monotonic() - start, 4)
            self.rows[i] = FrameRecord(frame=i, seconds=seconds, blocks=weights, inputs=inputs, files=files)
            add_to_log(self.folder, self.name, self.rows[i].to_json())
            if done == 1:  # The first frame also loads blocks and compiles kernels.
                log(f"      about {format_duration(seconds * len(missing))}")

    def _render(self, cameras: Cameras, frame: int) -> CityRendering:
        options = self.appearance.render_options_at(
            frame / max(1, len(self.trajectory) - 1), self.renderer, cameras[frame]
        )
        return self.renderer.render(cameras, frame, max_blocks=self.known.settings.max_blocks, **options)

    def _write_image(
        self, frame: int, layer: str, rendering: CityRendering, weights: Mapping[str, float], depth_range: DepthRange
    ) -> FileMark:
        path = self._image(frame, layer)
        write_image(path, self._colors(rendering, layer, weights, depth_range))
        return FileMark.of(path)

    def _colors(
        self, rendering: CityRendering, layer: str, weights: Mapping[str, float], depth_range: DepthRange
    ) -> UInt8[np.ndarray, "height width 3"]:
        if layer == "depth":
            return depth_colors(rendering.depth.cpu().numpy(), *depth_range)
        color = to_uint8(rendering.color)
        if layer == "blocks":
            return colorize_blocks(color, [(self.positions[name], weight) for name, weight in weights.items()])
        return color

    def _depth_range(self, missing: Sequence[int]) -> DepthRange | None:
        """Return the depth range of the color map for the whole video, from a few low-resolution frames."""
        if "depth" not in self.outputs:
            return None
        if self.known.depth_range is not None and len(missing) < len(self.trajectory):
            return self.known.depth_range
        side = max(self.trajectory.width, self.trajectory.height)
        cameras = self.trajectory.cameras.scaled(min(1.0, 48 / side))
        depths = []
        for i in sorted({0, len(self.trajectory) // 2, len(self.trajectory) - 1}):
            rendering = self._render(cameras, i)
            depths.append(rendering.depth[rendering.opacity > 0.5].cpu())
        values = torch.cat(depths)
        near, far = 1.0, 100.0
        if len(values):
            near, far = 0.8 * float(values.quantile(0.02)), 1.5 * float(values.quantile(0.98))
        add_to_log(self.folder, self.name, {"depth_range": [near, far]})
        return near, far

    def _image(self, frame: int, layer: str) -> Path:
        return self.folder.frames_dir(self.name, layer) / f"{frame:05d}.png"

    def _is_rendered(self, frame: int) -> bool:
        if frame not in self.rows:
            return False
        return all(layer in self.rows[frame].files and self._image(frame, layer).exists() for layer in self.outputs)

    def _check_unchanged(self) -> None:
        """Raise if blocks, presets or poses were replaced during rendering.

        Raises:
            RunError: They were; the message names them.
        """
        if reasons := changes(self.folder, *(row.inputs for row in self.rows.values())):
            raise RunError(f"{self.name}: {'; '.join(reasons)}, during rendering; run the same command again")

    def _write_videos(self) -> list[float]:
        """Write the videos of all layers, and return the difference between each frame and the next."""
        differences: list[float] = []
        for layer in self.outputs:
            self._remove_frames_beyond(layer)
            images = self._measured(differences) if layer == "frames" else self._read(layer)
            write_video(self.folder.video(self.name, layer), images, fps=self.trajectory.fps)
        return differences

    def _remove_frames_beyond(self, layer: str) -> None:
        """Remove the frames of an older, longer camera path."""
        for path in self.folder.frames_dir(self.name, layer).glob("*.png"):
            if path.stem.isdecimal() and int(path.stem) >= len(self.trajectory):
                path.unlink()

    def _read(self, layer: str) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        return (read_image(self._image(i, layer)) for i in range(len(self.trajectory)))

    def _measured(self, differences: list[float]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Yield the frames, and append their differences to a list."""
        previous = None
        for image in self._read("frames"):
            if previous is not None:
                differences.append(round(frame_difference(previous, image), 6))
            previous = image
            yield image

    def _write_record(self, differences: Sequence[float], depth_range: DepthRange | None) -> None:
        frames = {i: row.only(self.outputs) for i, row in self.rows.items()}
        seconds = sum(row.seconds for row in frames.values())
        pixels = len(frames) * self.trajectory.width * self.trajectory.height
        statistics = Statistics(
            width=self.trajectory.width,
            height=self.trajectory.height,
            fps=self.trajectory.fps,
            seconds=round(seconds, 3),
            pixels_per_second=round(pixels / max(seconds, 1e-9)),
            mean_frame_difference=round(mean(differences), 6) if differences else 0.0,
            max_temporal_jump=round(max_temporal_jump(list(differences)), 4),
            frame_differences=tuple(differences),
        )
        videos = {layer: FileMark.of(self.folder.video(self.name, layer)) for layer in self.outputs}
        finished = replace(self.known, frames=frames, depth_range=depth_range, videos=videos, statistics=statistics)
        write_record(finished, self.folder.render_summary(self.name))
        self.folder.render_log(self.name).unlink(missing_ok=True)
        jump = f"largest temporal jump {statistics.max_temporal_jump:.2f} x the typical difference"
        log(f"{self.folder.video(self.name)}: {statistics.pixels_per_second:,} pixels/s, {jump}")
