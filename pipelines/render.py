"""Videos of the city: along the path of the capture, through chosen images, or along a given camera path."""

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
from blocknerf.options import check_number, check_whole, flag
from blocknerf.processes import end_with
from blocknerf.similarity import Rows, chain
from blocknerf.trajectory.trajectory import MAX_FPS, MAX_FRAMES, MAX_SIDE, MIN_FPS, Trajectory
from blocknerf.trajectory.trajectory_file import (
    read_dataparser_transforms,
    read_trajectory,
    write_trajectory,
)
from pipelines.console import log
from pipelines.render_record import (
    OTHER_FOLDER_HINT,
    PathOptions,
    RenderRecord,
    VideoSettings,
    read_progress,
    start_log,
)
from pipelines.staleness import CurrentInputs
from pipelines.video_defaults import default_path, resample_path, video_size
from pipelines.video_job import VideoJob

BLOCK_LIMIT = 1000
"""Upper bound of `max_blocks`."""


def render(
    run: Path,
    *,
    name: str = "flythrough",
    trajectory: Path | None = None,
    dataparser_transforms: Path | None = None,
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
    sharp: bool = False,
    save_depth: bool = False,
    save_block_weights: bool = False,
    threads: int | None = None,
    device: Device = "auto",
    parent_pid: int | None = None,
) -> Path:
    """Render a video of the city.

    Frames are saved one by one, so an interrupted video resumes. Frames of retrained blocks and damaged files are
    rendered again.

    Args:
        run: Run folder with trained blocks.
        name: Name of the video's folder under renders/.
        trajectory: A trajectory.json or nerfstudio camera path. Default: the path of the capture.
        dataparser_transforms: The dataparser_transforms.json next to nerfstudio's config.yml, for a camera path of
            nerfstudio's viewer: nerfstudio recenters and scales the world.
        keyframes: Names of at least two images to fly through, instead of --trajectory.
        segment: Segment to follow. Default: the longest one.
        frames: Number of frames. Default: from camera speed (8 m/s) and the preset's pixel budget.
        seconds: Length of the video, instead of --frames.
        fps: Frames per second. Default: 24, or fewer if the preset's pixel budget requires it.
        width: Width in pixels. Default: as in training, enlarged up to 2.5 times if the longer side is below 480, and
            640 at most.
        height: Height in pixels. Default: from the width.
        appearance: Appearance preset (see 'blocknerf match'). Default: the preset named "default" if it exists;
            otherwise each block uses its own, unmatched codes of one segment.
        appearance_end: One or more presets to blend to over the video, in this order, starting from --appearance.
        mix: With two presets, use this fixed mix in every frame, from 0 (first) to 1 (second).
        codes_of: Segment to take each block's own, unmatched appearance codes from, instead of a preset.
        exposure: Exposure in the capture's unit. Default: from the images near each camera position.
        block: Render only this block, to compare with the blend.
        hide: Blocks to leave out.
        max_blocks: Maximum number of blocks blended in a frame.
        weighting: How to weight blocks in a blend. Default: from city.json.
        power: Exponent of inverse-distance weighting. Default: from city.json.
        selection_radius: Use a block while the camera is within this many block radii. Default: from city.json.
        visibility_threshold: Leave out blocks with a lower mean predicted visibility. Default: from city.json.
        sharp: Sample finer than the training images saw a place too; shows grain. Default: never finer.
        save_depth: Also write depth.mp4.
        save_block_weights: Also write blocks.mp4, which shows by color which blocks a frame is blended from.
        threads: Number of CPU threads. Default: all cores.
        device: Device for rendering: auto (a GPU if there is one), cpu, cuda or cuda:1.
        parent_pid: ID of the parent process. Rendering stops when that process ends, even if it was killed.

    Returns:
        The path of video.mp4.

    Raises:
        BackendError: The device does not exist.
        OptionError: A number is out of range.
        LockedError: Another process is rendering the video.
        RunError: A block is not trained, a setting is out of range, a file is broken, or the folder contains another
            video.
    """
    check_whole(most=MAX_FRAMES, frames=frames)
    check_whole(most=MAX_SIDE, width=width, height=height)
    check_number(least=MIN_FPS, most=MAX_FPS, fps=fps)
    check_number(least=0.01, seconds=seconds)
    check_whole(most=BLOCK_LIMIT, max_blocks=max_blocks)
    check_whole(parent_pid=parent_pid)
    end_with(parent_pid)
    set_num_threads(threads)
    torch_device = resolve_device(device)
    folder = RunFolder(run)
    capture, city = capture_with_refined_poses(folder), read_city(folder.city)
    check_file_name(name, "--name")
    path_options = PathOptions(
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
        path = resample_path(_read_path(trajectory, dataparser_transforms, capture), fps, width, height)
    else:
        if dataparser_transforms is not None:
            raise RunError("render: --dataparser-transforms is for a camera path; give it with --trajectory")
        _reject_combined("keyframes", segment=segment if keyframes else None)
        size = video_size(capture, folder, segment, width, height)
        path = default_path(capture, city.preset, size, keyframes, segment, frames, seconds, fps)
    city = with_rendering(
        city,
        weighting=weighting,
        power=power,
        selection_radius=selection_radius,
        visibility_threshold=visibility_threshold,
    )
    _check_blocks(city, block, hide)
    _check_reach(city, path)
    _check_fields(folder, city)
    if codes_of is not None:
        _reject_combined("codes_of", appearance=appearance, appearance_end=appearance_end)
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
        sharp=sharp,
    )
    track = resolve_appearance(folder, city, capture, presets, codes_of, exposure, mix)
    known = _reserve_folder(folder, name, path, RenderRecord(settings=settings, path=path_options))
    VideoJob(folder, name, path, known, _layers(save_depth, save_block_weights), city, track, torch_device).make()
    return folder.video(name)


def _layers(save_depth: bool, save_block_weights: bool) -> tuple[str, ...]:
    return ("frames", *(["depth"] if save_depth else []), *(["blocks"] if save_block_weights else []))


def _read_path(file: Path, dataparser_transforms: Path | None, capture: Capture) -> Trajectory:
    """Return the camera path in a file; one of another program is in the coordinates of the capture's source."""
    to_world: Rows = capture.source_to_world
    if dataparser_transforms is not None:
        to_world = chain(to_world, read_dataparser_transforms(dataparser_transforms))
    return read_trajectory(file, to_world)


def _check_reach(city: City, path: Trajectory) -> None:
    """Warn of frames that no block is near enough to render, and raise if none is.

    Raises:
        RunError: The path is elsewhere; names the distance to the nearest block.
    """
    centers = path.camera_to_world[:, :2, 3].double()
    origins = centers.new_tensor([block.origin[:2] for block in city.blocks])
    radii = centers.new_tensor([block.radius for block in city.blocks])
    beyond = torch.cdist(centers, origins) - city.selection_radius * radii
    outside = int((beyond.amin(-1) > 0).sum())
    if outside == len(path):
        frame, block = divmod(int(beyond.argmin()), len(city.blocks))
        raise RunError(
            f"render: no camera of the path is in reach of a block; the nearest, frame {frame}, is "
            f"{float(beyond[frame, block]):.4g} beyond {city.blocks[block].name}; "
            "give a path in the capture's world, or --dataparser-transforms for one of nerfstudio's viewer"
        )
    if outside:
        log(f"warning: {outside} of {len(path)} frames are out of reach of every block, and show the nearest one")


def _check_blocks(city: City, block: str | None, hide: tuple[str, ...]) -> None:
    for name in (*hide, *([] if block is None else [block])):
        city.block(name)
    if block is not None and hide:
        raise RunError("render: --hide cannot be combined with --block; give one of them")
    if len(set(hide)) == len(city.blocks):
        raise RunError("render: --hide leaves no block to render; hide fewer")


def _check_fields(folder: RunFolder, city: City) -> None:
    """Raise before any rendering if no block is trained or the first field cannot be opened."""
    names = folder.trained_blocks()
    if not names:
        raise RunError(f"{folder.path}: no block is trained; run 'blocknerf train' first")
    block_loader(folder, city)(names[0])


def _reject_combined(option: str, **others: Any) -> None:
    for key, value in others.items():
        if value:
            raise RunError(f"render: {flag(key)} cannot be combined with {flag(option)}; give one of them")


def _reference_segment(folder: RunFolder, city: City, capture: Capture, block: str | None) -> str:
    """Return the segment to use if neither a preset nor a segment is requested."""
    blocks = city.blocks if block is None else (city.block(block),)
    return reference_segment(capture, trained_frames(folder, blocks, capture))


def _reserve_folder(folder: RunFolder, name: str, trajectory: Trajectory, requested: RenderRecord) -> RenderRecord:
    """Write the trajectory of a video into its folder, and return the record of what is already rendered.

    Raises:
        RunError: The folder contains a video with another camera path or other settings.
    """
    path, known = folder.trajectory(name), read_progress(folder, name)
    if known is not None and (difference := known.settings.difference(requested.settings)):
        raise RunError(f"{path.parent}: contains a video with {difference}; {OTHER_FOLDER_HINT}")
    if not path.exists() or not _same(read_trajectory(path), trajectory):
        if path.exists() and not _poses_changed(folder, known, requested):
            raise RunError(f"{path}: is another camera path with this name; {OTHER_FOLDER_HINT}")
        write_trajectory(trajectory, path)
    if known is None:
        start_log(folder, name, requested)
    return requested if known is None else known


def _poses_changed(folder: RunFolder, known: RenderRecord | None, requested: RenderRecord) -> bool:
    """Return whether the camera path differs only because the run's poses were aligned again."""
    if known is None or requested.path.given or known.path != requested.path:
        return False
    poses = CurrentInputs(folder).of(()).poses
    return all(row.inputs.poses != poses for row in known.frames.values())


def _same(first: Trajectory, second: Trajectory) -> bool:
    shapes = [(len(path), path.width, path.height, path.fps) for path in (first, second)]
    if shapes[0] != shapes[1] or not torch.allclose(first.focals, second.focals, rtol=1e-4):
        return False
    # Rounding differs between machines.
    return torch.allclose(first.camera_to_world, second.camera_to_world, rtol=1e-5, atol=1e-4)
