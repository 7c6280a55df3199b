"""A run's images: where they are, from where they were taken, and which of them train a block."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from blocknerf.capture.capture import Capture, check_files, read_capture, write_capture
from blocknerf.capture.json_reader import error_context
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import apply_corrections
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import CaptureError, RunError
from blocknerf.partition.block import Block
from blocknerf.partition.frame_assignment import FrameAssignment, read_assignment
from blocknerf.values import format_value


def capture_with_images(run: RunFolder, moved_to: Path | None = None) -> Capture:
    """The capture of a run whose images are there.

    Args:
        run: The run folder.
        moved_to: The folder that the capture's images are relative to, or a file in it such as transforms.json, where
            the run or the capture was moved; capture.json refers to that folder from then on.

    Raises:
        CaptureError: capture.json is broken, or the images are not where it or `moved_to` says.
    """
    capture = read_capture(run.capture)
    if moved_to is None:
        if has_images(capture):
            return capture
        raise CaptureError(
            f"{run.capture}: its images are not in {capture.image_dir}; "
            "if the run or the capture was moved, say with --capture where they are now"
        )
    return relocate(run, replace(capture, image_dir=moved_to if moved_to.is_dir() else moved_to.parent))


def has_images(capture: Capture) -> bool:
    """Whether any of the first, middle and last image exists: none does where a run or a capture was moved."""
    frames = (capture.frames[i] for i in (0, len(capture) // 2, -1))
    return any((capture.image_dir / frame.image).exists() for frame in frames)


def relocate(run: RunFolder, capture: Capture) -> Capture:
    """Let a run refer to its images at `capture.root`.

    Raises:
        CaptureError: an image, mask or point file is not there or has another size.
    """
    check_files(capture)
    write_capture(capture, run.capture)
    return capture


def capture_with_refined_poses(run: RunFolder) -> Capture:
    """The capture with the poses of the run's common trajectory; as they were given where none is there.

    Raises:
        CaptureError: the capture or the run's poses are broken.
    """
    capture = read_capture(run.capture)
    if not run.poses.exists():
        return capture
    found = read_pose_average(run.poses)
    with error_context(str(run.poses)):
        return apply_corrections(capture, found.trajectory)


def block_training_frames(run: RunFolder, name: str, capture: Capture) -> tuple[Capture, FrameAssignment]:
    """The capture that trains a block, and which of its frames do.

    Args:
        run: The run folder, partitioned.
        name: Of the block.
        capture: The run's.

    Raises:
        CaptureError: the block has a capture of its own that cannot be read.
        RunError: its frames.json is missing or broken, or is about another capture.
    """
    path = run.frames(name)
    member = read_assignment(path)
    if member.block != name:
        raise RunError(
            f"{path}: block is {format_value(member.block)}, another block; restore the file, or partition again"
        )
    own = member.capture
    found = capture if own is None else read_capture(path.with_name(own))
    return found, read_assignment(path, found)


def trained_frames(run: RunFolder, blocks: Iterable[Block], capture: Capture) -> list[tuple[int, ...]]:
    """Of each block that the run's own images train, their positions in the capture.

    Raises:
        CaptureError, RunError: as `block_training_frames` does.
    """
    found = (block_training_frames(run, block.name, capture) for block in blocks)
    return [member.frames for own, member in found if own is capture]
