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
    own = run.block_capture(name)
    found = read_capture(own) if own.is_file() else capture
    return found, read_membership(run.frames(name), found)
