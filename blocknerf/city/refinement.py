"""How the world that a block learned lies to the poses it was given, where it refined them."""

from collections.abc import Callable
from dataclasses import dataclass

from blocknerf.cameras import Cameras
from blocknerf.capture.motion import Motion
from blocknerf.capture.offsets import PoseOffsets, read_offsets
from blocknerf.capture.reconciled import read_reconciliation
from blocknerf.capture.stretches import Stretch
from blocknerf.city.run_folder import RunFolder
from blocknerf.partition.membership import read_membership


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What is known of one block's world."""

    offsets: PoseOffsets
    """The block's own."""
    trajectory: PoseOffsets | None = None
    """What all blocks came to; None before they are reconciled."""
    place: Motion | None = None
    """From the trajectory's world to the block's; None before they are reconciled."""

    def view(self, cameras: Cameras, stretch: Stretch | None = None) -> Cameras:
        """Cameras as the block sees them.

        With a stretch they are photographs' own, as they were given: they stand where the block learned that the
        stretch stands, or, where it did not learn it, where the trajectory has it. Without, they are any cameras in
        the trajectory's world.
        """
        if stretch is not None:
            own = self.offsets.of(stretch)
            if own is not None:
                return own.moved(cameras)
            common = None if self.trajectory is None else self.trajectory.of(stretch)
            cameras = cameras if common is None else common.moved(cameras)
        return cameras if self.place is None else self.place.moved(cameras)


def open_refinements(run: RunFolder) -> Callable[[str], Refinement | None]:
    """Gives what is known of a block's world; None for a block that kept the poses it was given.

    A block that was updated kept those of its own photographs; it sees the run's from where the trajectory has them.

    Raises:
        CaptureError: a file of poses is broken.
        RunError: a frames.json is broken.
    """
    common = read_reconciliation(run.poses) if run.poses.exists() else None

    def read(name: str) -> Refinement | None:
        path = run.offsets(name)
        if not path.exists():
            if common is None or not _is_updated(run, name):
                return None
            return Refinement(offsets=PoseOffsets(), trajectory=common.trajectory)
        offsets = read_offsets(path)
        if common is None:
            return Refinement(offsets=offsets)
        return Refinement(offsets=offsets, trajectory=common.trajectory, place=common.places.get(name))

    return read


def _is_updated(run: RunFolder, name: str) -> bool:
    """Whether photographs of its own train the block; a run that was handed on without its frames.json has no more."""
    frames = run.frames(name)
    return frames.is_file() and read_membership(frames).capture is not None
