"""A run's images: their location, their poses, and which of them train a block."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import apply_corrections
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import CaptureError, error_context
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.block_capture import CaptureCutter, read_block_capture, write_block_capture
from blocknerf.partitioning.frame_assignment import (
    FrameAssignment,
    check_assignment,
    read_assignment,
    write_assignment,
)
from blocknerf.partitioning.held_out import hold_out, ordinal


def write_block_frames(run: RunFolder, assignments: Iterable[FrameAssignment], capture: Capture, city: City) -> None:
    """Write which frames train each block, and the part of the capture that each block trains on.

    Raises:
        CaptureError: the points of the capture cannot be read.
    """
    cutter = CaptureCutter(capture)
    for assignment in assignments:
        name = assignment.block
        write_block_capture(cutter.part(city.block(name), assignment.frames), run.block_capture(name))
        write_assignment(assignment, capture, run.frames(name))


def block_capture(run: RunFolder, name: str) -> Capture:
    """Return the part of a run's capture that trains a block: exactly its training frames, in their order.

    Raises:
        CaptureError: the file is missing or damaged.
        RunError: it is not the file of this block, or has other frames than frames.json.
    """
    part = read_block_capture(run.block_capture(name))
    check_assignment(run.frames(name), name, part)
    return part


def block_capture_with_images(run: RunFolder, name: str) -> Capture:
    """Return the part of a run's capture that trains a block, with its images verified to exist.

    Raises:
        CaptureError: the file is broken, or the images are not in its folder.
        RunError: the file is not that of this block.
    """
    return _with_images(block_capture(run, name), run.block_capture(name))


def capture_with_images(run: RunFolder, moved_to: Path | None = None) -> Capture:
    """Return the capture of a run, with its images verified to exist.

    Args:
        run: The run folder.
        moved_to: New folder of the capture's images, or a file in it such as transforms.json, if the run or the capture
            was moved; the files of the run refer to that folder afterwards.

    Raises:
        CaptureError: capture.json is broken, or the images are not in its folder or `moved_to`.
    """
    capture = read_capture(run.capture)
    if moved_to is None:
        return _with_images(capture, run.capture)
    return relocate(run, replace(capture, image_dir=moved_to if moved_to.is_dir() else moved_to.parent))


def has_images(capture: Capture) -> bool:
    """Return whether the first, middle or last image exists; none does if the run or the capture was moved."""
    frames = (capture.frames[i] for i in (0, len(capture) // 2, -1))
    return any((capture.image_dir / frame.image).exists() for frame in frames)


def _with_images(capture: Capture, file: Path) -> Capture:
    if has_images(capture):
        return capture
    raise CaptureError(
        f"{file}: its images are not in {capture.image_dir}; "
        "if the run or the capture was moved, give their folder with --capture"
    )


def relocate(run: RunFolder, capture: Capture) -> Capture:
    """Write the run's capture, and the parts of it that train its blocks, with the folders of `capture`.

    Raises:
        CaptureError: an image, mask or point file is missing or has another size, or a file of the run is broken.
    """
    check_files(capture)
    before, after = _folders(read_capture(run.capture)), _folders(capture)
    for path in sorted(run.blocks.glob(f"*/{run.block_capture('*').name}")):
        part = read_block_capture(path)
        if _folders(part) == before:  # An updated block trains on images of another folder.
            write_block_capture(replace(part, **after), path)
    # Last, so that an interrupted call can be repeated.
    write_capture(capture, run.capture)
    return capture


def _folders(capture: Capture) -> dict[str, Any]:
    return {key: getattr(capture, key) for key in ("image_dir", "mask_dir", "points_dir")}


def capture_with_refined_poses(run: RunFolder) -> Capture:
    """Return the capture with averaged poses if the run has them, else with the given poses.

    Raises:
        CaptureError: the capture or the run's poses are broken.
    """
    capture = read_capture(run.capture)
    if not run.poses.exists():
        return capture
    average = read_pose_average(run.poses)
    with error_context(str(run.poses)):
        return apply_corrections(capture, average.trajectory)


def trained_frames(run: RunFolder, blocks: Iterable[Block], capture: Capture) -> list[tuple[int, ...]]:
    """Return the frames of each block that trains on the run's own images, as indices into the capture.

    Raises:
        RunError: a frames.json is missing or broken, or belongs to another capture.
    """
    paths = [run.frames(block.name) for block in blocks]
    return [read_assignment(path, capture).frames for path in paths if read_assignment(path).capture is None]


def held_out_rule(city: City, capture: Capture) -> str:
    """Return how the test frames of a run were chosen, as a sentence without its period."""
    if city.test_frames is None and city.test_every:  # partitioned by an earlier version
        return f"Every {ordinal(city.test_every)} image was held out"
    return hold_out(capture, city.test_every).rule
