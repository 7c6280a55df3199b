"""Where a run's photographs stand, and which train a block: some of those, or its own where it was updated."""

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.capture.offsets import refined
from blocknerf.capture.reconciled import read_reconciliation
from blocknerf.city.manifest import RunFolder
from blocknerf.partition.membership import Membership, read_membership


def placed_capture(run: RunFolder) -> Capture:
    """The capture with the poses of the run's common trajectory; as they were given where none is there.

    Raises:
        CaptureError: the capture or the run's poses are broken.
    """
    capture = read_capture(run.capture)
    return refined(capture, read_reconciliation(run.poses).trajectory) if run.poses.is_file() else capture


def block_photographs(run: RunFolder, name: str, capture: Capture) -> tuple[Capture, Membership]:
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
    own = read_membership(path).capture
    found = capture if own is None else read_capture(path.with_name(own))
    return found, read_membership(path, found)
