"""How the world that a block learned lies to the poses it was given, where it refined them."""

from collections.abc import Callable
from dataclasses import dataclass

from blocknerf.cameras import Cameras
from blocknerf.capture.pose_averaging_file import read_pose_average
from blocknerf.capture.pose_corrections import PoseCorrections, read_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.run_folder import RunFolder
from blocknerf.partition.frame_assignment import read_assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAlignment:
    """What is known of one block's world."""

    pose_corrections: PoseCorrections
    """The block's own."""
    trajectory: PoseCorrections | None = None
    """What all blocks came to; None before they are reconciled."""
    block_from_world: PivotTransform | None = None
    """From the trajectory's world to the block's; None before they are reconciled."""

    def to_block_frame(self, cameras: Cameras, stretch: PoseSegment | None = None) -> Cameras:
        """Cameras as the block sees them.

        With a stretch they are photographs' own, as they were given: they stand where the block learned that the
        stretch stands, or, where it did not learn it, where the trajectory has it. Without, they are any cameras in
        the trajectory's world.
        """
        if stretch is not None:
            own = self.pose_corrections.of(stretch)
            if own is not None:
                return own.apply(cameras)
            common = None if self.trajectory is None else self.trajectory.of(stretch)
            cameras = cameras if common is None else common.apply(cameras)
        return cameras if self.block_from_world is None else self.block_from_world.apply(cameras)


def load_alignments(run: RunFolder) -> Callable[[str], BlockAlignment | None]:
    """Gives what is known of a block's world; None for a block that kept the poses it was given.

    A block that was updated kept those of its own photographs; it sees the run's from where the trajectory has them.

    Raises:
        CaptureError: a file of poses is broken.
        RunError: a frames.json is broken.
    """
    common = read_pose_average(run.poses) if run.poses.exists() else None

    def read(name: str) -> BlockAlignment | None:
        path = run.pose_corrections(name)
        if not path.exists():
            if common is None or not _is_updated(run, name):
                return None
            return BlockAlignment(pose_corrections=PoseCorrections(), trajectory=common.trajectory)
        offsets = read_corrections(path)
        if common is None:
            return BlockAlignment(pose_corrections=offsets)
        return BlockAlignment(
            pose_corrections=offsets, trajectory=common.trajectory, block_from_world=common.block_alignments.get(name)
        )

    return read


def _is_updated(run: RunFolder, name: str) -> bool:
    """Whether photographs of its own train the block; a run that was handed on without its frames.json has no more."""
    frames = run.frames(name)
    return frames.is_file() and read_assignment(frames).capture is not None
