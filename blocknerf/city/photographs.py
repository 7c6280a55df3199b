"""Which photographs train a block: some of the run's, or of its own where the block was updated."""

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.manifest import RunFolder
from blocknerf.partition.membership import Membership, read_membership


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
