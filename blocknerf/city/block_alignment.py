"""Alignment of a block's frame with the world, for blocks that refined their poses."""

from collections.abc import Callable
from dataclasses import dataclass

from blocknerf.cameras import Cameras
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import PoseCorrections, read_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.run_folder import RunFolder
from blocknerf.partitioning.frame_assignment import read_assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAlignment:
    """Transform between the world and the frame of one block."""

    pose_corrections: PoseCorrections
    """Corrections that the block learned."""
    trajectory: PoseCorrections | None = None
    """Averaged corrections of all blocks; None before `blocknerf align`."""
    block_from_world: PivotTransform | None = None
    """From the world of the averaged trajectory to the block's frame; None before `blocknerf align`."""

    def to_block_frame(self, cameras: Cameras, pose_segment: PoseSegment | None = None) -> Cameras:
        """Return cameras in the block's frame.

        With a pose segment, the cameras are uncorrected cameras of the capture: they get the block's own correction of
        that segment or, if it has none, the averaged one. Without, they are any cameras in the world of the averaged
        trajectory.
        """
        if pose_segment is not None:
            correction = self.pose_corrections.of(pose_segment)
            if correction is not None:
                return correction.apply(cameras)
            average = None if self.trajectory is None else self.trajectory.of(pose_segment)
            cameras = cameras if average is None else average.apply(cameras)
        return cameras if self.block_from_world is None else self.block_from_world.apply(cameras)


def load_alignments(run: RunFolder) -> Callable[[str], BlockAlignment | None]:
    """Return a function from a block's name to its alignment; None for a block without pose refinement.

    An updated block kept the given poses of its own images; it sees the run's images at their averaged poses.

    Raises:
        CaptureError: a file of poses is broken.
        RunError: a frames.json is broken.
    """
    average = read_pose_average(run.poses) if run.poses.exists() else None

    def read(name: str) -> BlockAlignment | None:
        path = run.pose_corrections(name)
        if not path.exists():
            if average is None or not _is_updated(run, name):
                return None
            return BlockAlignment(pose_corrections=PoseCorrections(), trajectory=average.trajectory)
        corrections = read_corrections(path)
        if average is None:
            return BlockAlignment(pose_corrections=corrections)
        return BlockAlignment(
            pose_corrections=corrections,
            trajectory=average.trajectory,
            block_from_world=average.block_alignments.get(name),
        )

    return read


def _is_updated(run: RunFolder, name: str) -> bool:
    """Return whether the block trains on its own images; false if its frames.json is missing."""
    frames = run.frames(name)
    return frames.is_file() and read_assignment(frames).capture is not None
