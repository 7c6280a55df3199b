"""Films of the city: along the capture's own way, through chosen views, or along a given camera path."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from blocknerf.cameras import Cameras
from blocknerf.city.cache import open_blocks
from blocknerf.city.light import Light, default_look, find_light
from blocknerf.city.manifest import City, RunFolder, Weighting, check_name, read_city
from blocknerf.city.photographs import placed_capture
from blocknerf.city.renderer import CityRenderer, CityRendering
from blocknerf.colormaps import depth_colors, weight_colors
from blocknerf.errors import RunError
from blocknerf.files import format_json, read_json, write_atomic
from blocknerf.images import read_image, to_uint8, write_image
from blocknerf.kernels.devices import Device, resolve
from blocknerf.kernels.threads import use_threads
from blocknerf.metrics.change import largest_jump, picture_change
from blocknerf.options import check_number, check_whole
from blocknerf.processes import end_with
from blocknerf.trajectory.trajectory import MAX_FPS, MAX_FRAMES, MAX_SIDE, MIN_FPS, Trajectory
from blocknerf.trajectory.trajectory_file import read_trajectory, write_trajectory
from blocknerf.video import write_video
from pipelines.film import as_asked, film_size, own_film
from pipelines.job import duration, is_done, say, tracked
from pipelines.records import read_lines

RENDER_FORMAT = "blocknerf.render/1"

_ANOTHER = "choose another --name, or remove the folder"


def render(
    run: Path,
    *,
    name: str = "flythrough",
    trajectory: Path | None = None,
    through: tuple[str, ...] = (),
    segment: str | None = None,
    frames: int | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    width: int | None = None,
    height: int | None = None,
    look: str | None = None,
    exposure: float | None = None,
    block: str | None = None,
    weighting: Weighting | None = None,
    depth: bool = False,
    block_weights: bool = False,
    threads: int | None = None,
    device: Device = "auto",
    beside: int | None = None,
) -> Path:
    """Render a film of the city, and give its path.

    Pictures are kept one by one, so a film that was interrupted goes on where it stopped.

    Args:
        run: The run folder, with trained blocks.
        name: The film's folder under renders/.
        trajectory: A trajectory.json or nerfstudio camera path to follow; by default the capture's own way.
        through: Photographs to fly through instead, by name, at least two.
        segment: The segment whose way to follow; by default the longest.
        frames: How many pictures; by default as many as a calm speed asks for and the preset affords.
        seconds: How long the film lasts, in place of frames.
        fps: Pictures a second; by default 24, or fewer where the preset affords few pictures.
        width: Of the film, in pixels; by default as in training, at most 640.
        height: Of the film, in pixels.
        look: A stored look (`blocknerf match`), or several with colons between them, as noon:dusk, that pass into one
            another along the film; by default the look named default. Without any, blocks show the segment that is
            followed, or trains the most blocks, as each of them learned it.
        exposure: Show this exposure, in the capture's unit; by default that of the photographs around each camera.
        block: Render this block alone, to compare hand-overs with.
        weighting: How blocks share the picture; by default as city.json says.
        depth: Also make depth.mp4.
        block_weights: Also make blocks.mp4, which shows by color which blocks a picture is from.
        threads: Processor threads; by default every core.
        device: Where to render: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.
        beside: Number of the process that started this one; rendering stops when that is gone, even if it was killed.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        RunError: A block is not trained, a file is broken, or the folder holds another film.
    """
    check_whole(most=MAX_FRAMES, frames=frames)
    check_whole(most=MAX_SIDE, width=width, height=height)
    check_number(least=MIN_FPS, most=MAX_FPS, fps=fps)
    check_number(least=0.01, seconds=seconds)
    check_whole(beside=beside)
    end_with(beside)
    use_threads(threads)
    place = resolve(device)
    folder, layers = RunFolder(run), _layers(depth, block_weights)
    capture, city = placed_capture(folder), read_city(folder.city)
    check_name(name, "--name")
    if trajectory is not None:
        _refuse_beside("trajectory", through=through, segment=segment, frames=frames, seconds=seconds)
        film = as_asked(read_trajectory(trajectory), fps, width, height)
    else:
        _refuse_beside("through", segment=segment if through else None)
        size = film_size(capture, folder, segment, width, height)
        film = own_film(capture, city.preset, size, through, segment, frames, seconds, fps)
    settings: dict[str, Any] = {
        "look": look or default_look(folder, segment),
        "segment": segment,
        "exposure": exposure,
        "block": block,
        "weighting": weighting,
    }
    _check_fields(folder, city)
    light = find_light(folder, city, capture, settings["look"], segment, exposure)
    _claim(folder, name, film, settings)
    if all(folder.video(name, layer).exists() for layer in layers) and is_done(folder.render_record(name)):
        return folder.video(name)
    _Film(folder, city, name, film, layers, settings, light, place).make()
    return folder.video(name)


def _layers(depth: bool, block_weights: bool) -> tuple[str, ...]:
    return ("frames", *(["depth"] if depth else []), *(["blocks"] if block_weights else []))


def _check_fields(folder: RunFolder, city: City) -> None:
    """Open one field, so that a run that cannot be rendered is refused before a film is begun."""
    names = folder.blocks_done()
    if not names:
        raise RunError(f"{folder.path}: no block is trained; run 'blocknerf train' first")
    open_blocks(folder, city)(names[0])


def _refuse_beside(kind: str, **others: Any) -> None:
    for key, value in others.items():
        if value:
            raise RunError(f"render: --{key} has no meaning beside --{kind}; give one of them")


def _claim(folder: RunFolder, name: str, film: Trajectory, settings: Mapping[str, Any]) -> None:
    """Write the trajectory into the film's folder, or find that the same one is there already."""
    path = folder.trajectory(name)
    if not path.exists():
        write_trajectory(film, path)
        write_atomic(folder.render_log(name), json.dumps({"settings": settings}) + "\n")
        return
    if not _same(read_trajectory(path), film):
        raise RunError(f"{path}: is of another film under this name; {_ANOTHER}")
    record = folder.render_record(name)
    first = read_json(record, "render") if record.exists() else next(read_lines(folder.render_log(name)), {})
    written = first.get("settings", settings)
    if any(written.get(key) != value for key, value in settings.items()):
        raise RunError(f"{path.parent}: holds this film with another look, exposure, block or weighting; {_ANOTHER}")


def _same(first: Trajectory, second: Trajectory) -> bool:
    shape = [(len(film), film.width, film.height, film.fps) for film in (first, second)]
    if shape[0] != shape[1] or not torch.allclose(first.focals, second.focals, rtol=1e-4):
        return False
    # Another machine may round the last digits otherwise.
    return torch.allclose(first.camera_to_world, second.camera_to_world, rtol=1e-5, atol=1e-4)


class _Film:
    """One film in the making: its pictures, then its videos, then its record."""

    def __init__(
        self,
        folder: RunFolder,
        city: City,
        name: str,
        film: Trajectory,
        layers: tuple[str, ...],
        settings: Mapping[str, Any],
        light: Light,
        device: torch.device,
    ) -> None:
        self.light = light
        self.folder, self.name, self.film, self.layers, self.settings = folder, name, film, layers, settings
        self.positions = {block.name: i for i, block in enumerate(city.blocks)}
        shown = city
        if settings["block"] is not None:
            shown = replace(city, blocks=(city.block(settings["block"]),))
        if settings["weighting"] is not None:
            shown = replace(shown, weighting=settings["weighting"])
        self.renderer = CityRenderer(folder, city=shown, load=open_blocks(folder, city, device), device=device)
        self.rows = {row["frame"]: row for row in self._old_rows()}

    def make(self) -> None:
        """Render the missing pictures, then write videos and record."""
        missing = [i for i in range(len(self.film)) if not self._is_made(i)]
        size = f"{self.film.width}x{self.film.height}"
        kept = f", {len(self.film) - len(missing)} are there already" if len(missing) < len(self.film) else ""
        say(f"{self.name}: {len(self.film)} pictures of {size}, {self.film.seconds:.1f} s{kept}")
        if missing:
            near, far = self._depth_range()
            self._make_pictures(missing, near, far)
        changes = self._write_videos()
        self._write_record(changes)

    def _make_pictures(self, missing: list[int], near: float, far: float) -> None:
        cameras = self.film.cameras
        for done, i in enumerate(tracked(missing, self.name, len(missing))):
            start = time.monotonic()
            seen = self._render(cameras, i)
            weights = {use.name: round(use.weight, 6) for use in seen.rendered}
            for layer in self.layers:
                write_image(self._picture(i, layer), self._colors(seen, layer, weights, near, far))
            taken = time.monotonic() - start
            row = {"frame": i, "seconds": round(taken, 4), "blocks": weights}
            self.rows[i] = row
            with self.folder.render_log(self.name).open("a") as log:
                log.write(json.dumps(row) + "\n")
            if done == 1:  # The first picture also loads blocks and compiles kernels.
                say(f"   about {duration(taken * len(missing))}")

    def _render(self, cameras: Cameras, frame: int) -> CityRendering:
        share = frame / max(1, len(self.film) - 1)
        return self.renderer.render(cameras, frame, **self.light.at(share, self.renderer, cameras[frame]))

    def _colors(
        self, seen: CityRendering, layer: str, weights: Mapping[str, float], near: float, far: float
    ) -> UInt8[np.ndarray, "height width 3"]:
        if layer == "depth":
            return depth_colors(seen.depth.cpu().numpy(), near, far)
        color = to_uint8(seen.color)
        if layer == "blocks":
            return weight_colors(color, [(self.positions[name], weight) for name, weight in weights.items()])
        return color

    def _depth_range(self) -> tuple[float, float]:
        """Distances that depth colors span, the same for the whole film: those of a glance at it, widened."""
        if "depth" not in self.layers:
            return 1.0, 2.0
        side = max(self.film.width, self.film.height)
        cameras = self.film.cameras.scaled(min(1.0, 48 / side))
        found = []
        for i in sorted({0, len(self.film) // 2, len(self.film) - 1}):
            seen = self._render(cameras, i)
            found.append(seen.depth[seen.opacity > 0.5].cpu())
        depths = torch.cat(found)
        if not len(depths):
            return 1.0, 100.0
        return 0.8 * float(depths.quantile(0.02)), 1.5 * float(depths.quantile(0.98))

    def _picture(self, frame: int, layer: str) -> Path:
        return self.folder.pictures(self.name, layer) / f"{frame:05d}.png"

    def _is_made(self, frame: int) -> bool:
        return frame in self.rows and all(self._picture(frame, layer).exists() for layer in self.layers)

    def _old_rows(self) -> list[dict[str, Any]]:
        record = self.folder.render_record(self.name)
        rows = read_json(record, "render")["frames"] if record.exists() else []
        return [*rows, *(row for row in read_lines(self.folder.render_log(self.name)) if "frame" in row)]

    def _write_videos(self) -> list[float]:
        """Videos of all layers; gives the change between each picture and the one before."""
        changes: list[float] = []
        for layer in self.layers:
            pictures = self._measured(changes) if layer == "frames" else self._read(layer)
            write_video(self.folder.video(self.name, layer), pictures, fps=self.film.fps)
        return changes

    def _read(self, layer: str) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        return (read_image(self._picture(i, layer)) for i in range(len(self.film)))

    def _measured(self, changes: list[float]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        before = None
        for picture in self._read("frames"):
            if before is not None:
                changes.append(round(picture_change(before, picture), 6))
            before = picture
            yield picture

    def _write_record(self, changes: list[float]) -> None:
        rows = [self.rows[i] for i in range(len(self.film))]
        spent = sum(row["seconds"] for row in rows)
        record = {
            "format": RENDER_FORMAT,
            "settings": self.settings,
            "width": self.film.width,
            "height": self.film.height,
            "fps": self.film.fps,
            "seconds": round(spent, 3),
            "pixels_per_second": round(len(rows) * self.film.width * self.film.height / max(spent, 1e-9)),
            "mean_change": round(mean(changes), 6) if changes else 0.0,
            "largest_jump": round(largest_jump(changes), 4),
            "changes": changes,
            "frames": rows,
        }
        write_atomic(self.folder.render_record(self.name), format_json(record))
        self.folder.render_log(self.name).unlink(missing_ok=True)
        rate = f"{record['pixels_per_second']:,} pixels/s, largest jump {record['largest_jump']:.2f} x the usual change"
        say(f"{self.folder.video(self.name)}: {rate}")
