"""Videos of the city: along the capture's own way, through chosen views, or along a given camera path."""

from pathlib import Path
from typing import Any

import torch

from blocknerf.capture.capture import Capture
from blocknerf.city.appearance import reference_segment
from blocknerf.city.appearance_track import default_preset, resolve_appearance
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City, Weighting, check_file_name, read_city, rendering_settings, with_rendering
from blocknerf.city.renderer import MAX_BLOCKS
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_refined_poses, trained_frames
from blocknerf.errors import RunError
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.options import check_number, check_whole
from blocknerf.processes import end_with
from blocknerf.trajectory.trajectory import MAX_FPS, MAX_FRAMES, MAX_SIDE, MIN_FPS, Trajectory
from blocknerf.trajectory.trajectory_file import read_trajectory, write_trajectory
from pipelines.render_record import (
    OTHER_FOLDER_HINT,
    PathOptions,
    RenderRecord,
    VideoSettings,
    begin_log,
    read_progress,
)
from pipelines.staleness import CurrentInputs
from pipelines.video_defaults import default_path, resample_path, video_size
from pipelines.video_job import VideoJob

BLOCK_LIMIT = 1000
"""That a frame can be blended from."""


def render(
    run: Path,
    *,
    name: str = "flythrough",
    trajectory: Path | None = None,
    keyframes: tuple[str, ...] = (),
    segment: str | None = None,
    frames: int | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    width: int | None = None,
    height: int | None = None,
    appearance: str | None = None,
    appearance_end: tuple[str, ...] = (),
    mix: float | None = None,
    codes_of: str | None = None,
    exposure: float | None = None,
    block: str | None = None,
    hide: tuple[str, ...] = (),
    max_blocks: int = MAX_BLOCKS,
    weighting: Weighting | None = None,
    power: float | None = None,
    selection_radius: float | None = None,
    visibility_threshold: float | None = None,
    save_depth: bool = False,
    save_block_weights: bool = False,
    threads: int | None = None,
    device: Device = "auto",
    parent_pid: int | None = None,
) -> Path:
    """Render a film of the city, and give its path.

    Pictures are kept one by one, so a film that was interrupted goes on where it stopped. Frames of blocks that were
    retrained since, and files that were damaged, are rendered again, with a line that says so.

    Args:
        run: The run folder, with trained blocks.
        name: The film's folder under renders/.
        trajectory: A trajectory.json or nerfstudio camera path to follow; by default the capture's own way.
        keyframes: Photographs to fly through instead, by name, at least two.
        segment: The segment whose way to follow; by default the longest.
        frames: How many pictures; by default as many as a calm speed asks for and the preset affords.
        seconds: How long the film lasts, in place of frames.
        fps: Pictures a second; by default 24, or fewer where the preset affords few pictures.
        width: Of the film, in pixels; by default as in training, at most 640.
        height: Of the film, in pixels.
        appearance: Appearance preset to show (`blocknerf match` makes them). Default: the preset named "default" if it
            exists; otherwise each block uses its own, unmatched codes of one segment.
        appearance_end: One or more presets that the video passes to, in this order, starting from --appearance.
        mix: With two presets, use this fixed mix in every frame, from 0 (first) to 1 (second).
        codes_of: Segment whose own, unmatched codes each block uses instead of a preset.
        exposure: Show this exposure, in the capture's unit; by default that of the photographs around each camera.
        block: Render this block alone, to compare hand-overs with.
        hide: Blocks to leave out.
        max_blocks: How many blocks a frame is blended from at most.
        weighting: How blocks share the picture; by default as city.json says.
        power: Exponent of the inverse distance by which blocks are weighed; by default as city.json says.
        selection_radius: Take a block while the camera is within this many of its radii; by default as city.json says.
        visibility_threshold: Leave out blocks whose mean predicted visibility is below; by default as city.json says.
        save_depth: Also make depth.mp4.
        save_block_weights: Also make blocks.mp4, which shows by color which blocks a picture is from.
        threads: Processor threads; by default every core.
        device: Where to render: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.
        parent_pid: Number of the process that started this one; rendering stops when that is gone, even if it was killed.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        LockedError: Another process renders the video.
        RunError: A block is not trained, a setting is out of range, a file is broken, or the folder holds another film.
    """
    check_whole(most=MAX_FRAMES, frames=frames)
    check_whole(most=MAX_SIDE, width=width, height=height)
    check_number(least=MIN_FPS, most=MAX_FPS, fps=fps)
    check_number(least=0.01, seconds=seconds)
    check_whole(most=BLOCK_LIMIT, max_blocks=max_blocks)
    check_whole(parent_pid=parent_pid)
    end_with(parent_pid)
    set_num_threads(threads)
    place = resolve_device(device)
    folder = RunFolder(run)
    capture, city = capture_with_refined_poses(folder), read_city(folder.city)
    check_file_name(name, "--name")
    path = PathOptions(
        given=trajectory is not None,
        keyframes=keyframes,
        segment=segment,
        frames=frames,
        seconds=seconds,
        fps=fps,
        width=width,
        height=height,
    )
    if trajectory is not None:
        _reject_combined("trajectory", keyframes=keyframes, segment=segment, frames=frames, seconds=seconds)
        film = resample_path(read_trajectory(trajectory), fps, width, height)
    else:
        _reject_combined("keyframes", segment=segment if keyframes else None)
        size = video_size(capture, folder, segment, width, height)
        film = default_path(capture, city.preset, size, keyframes, segment, frames, seconds, fps)
    city = with_rendering(
        city,
        weighting=weighting,
        power=power,
        selection_radius=selection_radius,
        visibility_threshold=visibility_threshold,
    )
    _check_blocks(city, block, hide)
    _check_fields(folder, city)
    if codes_of is not None:
        _reject_combined("codes-of", appearance=appearance, appearance_end=appearance_end)
    elif appearance is None and (appearance := default_preset(folder, segment)) is None:
        codes_of = segment or _reference_segment(folder, city, capture, block)
    if appearance is None and appearance_end:
        raise RunError("render: --appearance-end needs a preset to start from; add --appearance NAME")
    presets = () if appearance is None else (appearance, *appearance_end)
    settings = VideoSettings(
        appearance=presets,
        codes_of=codes_of,
        mix=mix,
        exposure=exposure,
        block=block,
        hide=tuple(sorted(set(hide))),
        max_blocks=max_blocks,
        **rendering_settings(city),
    )
    light = resolve_appearance(folder, city, capture, presets, codes_of, exposure, mix)
    known = _reserve_folder(folder, name, film, RenderRecord(settings=settings, path=path))
    VideoJob(folder, name, film, known, _layers(save_depth, save_block_weights), city, light, place).make()
    return folder.video(name)


def _layers(save_depth: bool, save_block_weights: bool) -> tuple[str, ...]:
    return ("frames", *(["depth"] if save_depth else []), *(["blocks"] if save_block_weights else []))


def _check_blocks(city: City, block: str | None, hide: tuple[str, ...]) -> None:
    for name in (*hide, *([] if block is None else [block])):
        city.block(name)
    if block is not None and hide:
        raise RunError("render: --hide has no meaning together with --block; give one of them")
    if len(set(hide)) == len(city.blocks):
        raise RunError("render: --hide leaves no block to render; name fewer")


def _check_fields(folder: RunFolder, city: City) -> None:
    """Open one field, so that a run that cannot be rendered is refused before a film is begun."""
    names = folder.trained_blocks()
    if not names:
        raise RunError(f"{folder.path}: no block is trained; run 'blocknerf train' first")
    block_loader(folder, city)(names[0])


def _reject_combined(kind: str, **others: Any) -> None:
    for key, value in others.items():
        if value:
            raise RunError(
                f"render: --{key.replace(chr(95), chr(45))} cannot be combined with --{kind}; give one of them"
            )


def _reference_segment(folder: RunFolder, city: City, capture: Capture, block: str | None) -> str:
    """The segment that blocks show where neither a preset nor a segment is asked for."""
    blocks = city.blocks if block is None else (city.block(block),)
    return reference_segment(capture, trained_frames(folder, blocks, capture))


def _reserve_folder(folder: RunFolder, name: str, film: Trajectory, asked: RenderRecord) -> RenderRecord:
    """What is there of the video, once its folder has the trajectory.

    Raises:
        RunError: the folder holds a video along another camera path, or with other settings.
    """
    path, known = folder.trajectory(name), read_progress(folder, name)
    if known is not None and (difference := known.settings.difference(asked.settings)):
        raise RunError(f"{path.parent}: holds a video with {difference}; {OTHER_FOLDER_HINT}")
    if not path.exists() or not _same(read_trajectory(path), film):
        if path.exists() and not _is_derived_anew(folder, known, asked):
            raise RunError(f"{path}: is another camera path under this name; {OTHER_FOLDER_HINT}")
        write_trajectory(film, path)
    if known is None:
        begin_log(folder, name, asked)
    return asked if known is None else known


def _is_derived_anew(folder: RunFolder, known: RenderRecord | None, asked: RenderRecord) -> bool:
    """Whether the same options gave another camera path only because the run's poses were aligned anew."""
    if known is None or asked.path.given or known.path != asked.path:
        return False
    poses = CurrentInputs(folder).of(()).poses
    return all(row.inputs.poses != poses for row in known.frames.values())


def _same(first: Trajectory, second: Trajectory) -> bool:
    shape = [(len(film), film.width, film.height, film.fps) for film in (first, second)]
    if shape[0] != shape[1] or not torch.allclose(first.focals, second.focals, rtol=1e-4):
        return False
    # Another machine may round the last digits otherwise.
    return torch.allclose(first.camera_to_world, second.camera_to_world, rtol=1e-5, atol=1e-4)
