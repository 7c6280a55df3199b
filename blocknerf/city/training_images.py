"""A run's images: their location, their poses, and which of them train a block."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from blocknerf.capture.capture import Capture, check_files, read_capture, write_capture
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import apply_corrections
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import CaptureError, RunError, error_context
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import FrameAssignment, read_assignment
from blocknerf.partitioning.held_out import hold_out, ordinal
from blocknerf.values import format_value


def capture_with_images(run: RunFolder, moved_to: Path | None = None) -> Capture:
    """Return the capture of a run, with its images verified to exist.

    Args:
        run: The run folder.
        moved_to: New folder of the capture's images, or a file in it such as transforms.json, if the run or the capture
            was moved; capture.json refers to that folder afterwards.

    Raises:
        CaptureError: capture.json is broken, or the images are not in its folder or `moved_to`.
    """
    capture = read_capture(run.capture)
    if moved_to is None:
        if has_images(capture):
            return capture
        raise CaptureError(
            f"{run.capture}: its images are not in {capture.image_dir}; "
            "if the run or the capture was moved, give their folder with --capture"
        )
    return relocate(run, replace(capture, image_dir=moved_to if moved_to.is_dir() else moved_to.parent))


def has_images(capture: Capture) -> bool:
    """Return whether the first, middle or last image exists; none does if the run or the capture was moved."""
    frames = (capture.frames[i] for i in (0, len(capture) // 2, -1))
    return any((capture.image_dir / frame.image).exists() for frame in frames)


def relocate(run: RunFolder, capture: Capture) -> Capture:
    """Write the run's capture with its images at `capture.image_dir`.

    Raises:
        CaptureError: an image, mask or point file is missing or has another size.
    """
    check_files(capture)
    write_capture(capture, run.capture)
    return capture


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


def block_training_frames(run: RunFolder, name: str, capture: Capture) -> tuple[Capture, FrameAssignment]:
    """Return the capture that trains a block, and which of its frames do.

    Args:
        run: The run folder, partitioned.
        name: Name of the block.
        capture: The run's capture.

    Raises:
        CaptureError: the block's own capture cannot be read.
        RunError: its frames.json is missing or broken, or belongs to another capture.
    """
    path = run.frames(name)
    assignment = read_assignment(path)
    if assignment.block != name:
        raise RunError(
            f"{path}: block is {format_value(assignment.block)}, another block; restore the file, or partition again"
        )
    update_capture = assignment.capture
    block_capture = capture if update_capture is None else read_capture(path.with_name(update_capture))
    return block_capture, read_assignment(path, block_capture)


def trained_frames(run: RunFolder, blocks: Iterable[Block], capture: Capture) -> list[tuple[int, ...]]:
    """Return the frames of each block that trains on the run's own images, as indices into the capture.

    Raises:
        CaptureError, RunError: as `block_training_frames` does.
    """
    assignments = (block_training_frames(run, block.name, capture) for block in blocks)
    return [assignment.frames for block_capture, assignment in assignments if block_capture is capture]


def held_out_rule(city: City, capture: Capture) -> str:
    """Return how the test frames of a run were chosen, as a sentence without its period."""
    if city.test_frames is None and city.test_every:  # partitioned by an earlier version
        return f"Every {ordinal(city.test_every)} image was held out"
    return hold_out(capture, city.test_every).rule
